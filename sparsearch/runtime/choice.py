"""Which backend a weight is packed for: by measured times, or by size where there are none.

One form a weight, for all numbers of tokens. A second one that is faster for many tokens would undo the saving: at 60 %
bit masks of 16-bit values take 0.93 bytes a weight, 16-bit CSR beside them 2.4 more. Bit masks are widened block by
block for many tokens, so that nothing gets slower than dense; for faster prompts a table is asked for as many tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsearch.hardware.cost_model import Chooser, check_measured, rivals, site_shape
from sparsearch.hardware.kernels import BACKENDS, Packed, StoredBackend
from sparsearch.hardware.table import Table
from sparsearch.model.site import Site
from sparsearch.space import Level

PREFERRED = (
    "bitmask_fp32", "bitmask_bf16", "bitmask_fp16", "dense_bf16", "dense_fp16", "csr16", "torch_csr", "dense",
)  # fmt: skip
"""What is considered, on a CPU. Kernels that round the weights further than they are stored are left out."""

STORED = {
    "bitmask_bf16": torch.bfloat16, "bitmask_fp16": torch.float16,
    "dense_bf16": torch.bfloat16, "dense_fp16": torch.float16,
}  # fmt: skip
"""Types that not every weight fits into."""

LEAST_SPARSITY = {"csr16": 0.9, "torch_csr": 0.65}
"""Below it a backend takes more bytes than bit masks (`csr16`, which has 6 for each weight that is left), or is slower
than dense at any number of tokens (reference/kernels.md, break-even table)."""

MOST_SPARSITY = {"dense_bf16": 1 / 16, "dense_fp16": 1 / 16}
"""Above it the zeros take more bytes than a mask."""


def fastest_backends(levels: Mapping[Site, Level], table: Table, tokens: int, storage: str) -> dict[str, StoredBackend]:
    """The backend that a table says is the fastest, by site name: what the cost model has counted.

    Backends that this machine lacks are chosen too, as the table may be of the machine that the export is for.

    Args:
        levels: of every site.
        table: of the machine to run on.
        tokens: that are multiplied at once; 1 for decoding.
        storage: type of the checkpoint, by torch's name; kernels that round it further do not compete.

    Raises:
        ConfigError: a site's shape, or `tokens` with it, was not measured.
    """
    chooser = Chooser(table, tokens, rivals("cpu", storage))
    found = {}
    for site, level in levels.items():
        check_measured(site, table, tokens)
        backend = BACKENDS[chooser.of(site_shape(site), level).backend]
        assert isinstance(backend, StoredBackend)
        found[site.name] = backend
    return found


def pack_smallest(weight: Tensor) -> tuple[StoredBackend, Packed]:
    """The weight `[out, in]` in the form of the fewest bytes among those that compute with its very values.

    Products of few tokens wait for memory: what is smallest is fastest there. Cost: packing it a few times.
    """
    found = [(backend, backend.pack(weight)) for backend in _candidates(weight)]
    return min(found, key=lambda pair: pair[1].bytes)


def _candidates(weight: Tensor) -> list[StoredBackend]:
    shape, sparsity = (weight.shape[0], weight.shape[1]), float((weight == 0).double().mean())
    exact = {dtype for dtype in set(STORED.values()) if bool((weight.to(dtype).to(weight.dtype) == weight).all())}
    candidates = []
    for name in PREFERRED:
        backend = BACKENDS[name]
        assert isinstance(backend, StoredBackend)
        able = backend.unavailable() is None and backend.refuses(shape, weight.dtype, "") is None
        pays = LEAST_SPARSITY.get(name, 0.0) <= sparsity <= MOST_SPARSITY.get(name, 1.0)
        # Where 16 bits hold the values, 32 bits never take fewer bytes.
        fits = STORED[name] in exact if name in STORED else not (exact and name == "bitmask_fp32")
        if able and pays and fits:
            candidates.append(backend)
    return candidates
