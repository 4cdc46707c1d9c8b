"""Which backend a weight is packed for, where no measurement says."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsearch.hardware.kernels import BACKENDS, Packed, StoredBackend

PREFERRED = ("bitmask_fp32", "bitmask_bf16", "csr16", "torch_csr", "dense")
"""What is considered, on a CPU. Kernels that round the weights further than they are stored are left out."""

LEAST_SPARSITY = {"torch_csr": 0.65}
"""Below it a backend is slower than dense at any number of tokens (reference/kernels.md, break-even table)."""


def pack_smallest(weight: Tensor) -> tuple[StoredBackend, Packed]:
    """The weight `[out, in]` in the form of the fewest bytes among those that compute with its very values.

    Products of few tokens wait for memory: what is smallest is fastest there. Cost: packing it a few times.
    """
    found = [(backend, backend.pack(weight)) for backend in _candidates(weight)]
    return min(found, key=lambda pair: pair[1].bytes)


def _candidates(weight: Tensor) -> list[StoredBackend]:
    shape, sparsity = (weight.shape[0], weight.shape[1]), float((weight == 0).double().mean())
    exact = bool((weight.to(torch.bfloat16).to(weight.dtype) == weight).all())
    candidates = []
    for name in PREFERRED:
        backend = BACKENDS[name]
        assert isinstance(backend, StoredBackend)
        able = backend.unavailable() is None and backend.refuses(shape, weight.dtype, "") is None
        if able and sparsity >= LEAST_SPARSITY.get(name, 0.0) and (exact or name != "bitmask_bf16"):
            candidates.append(backend)
    return candidates
