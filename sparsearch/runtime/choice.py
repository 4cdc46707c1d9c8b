"""Which backends a weight is packed for: by measured times, or by size where there are none.

Most weights have one form for all numbers of tokens: beside bit masks of 16-bit values (0.93 bytes a weight at 60 %),
16-bit CSR (2.4 bytes) would make prompts of 256 tokens 1.6 times as fast and undo the saving. At 90 % both together
take less than a byte a weight, and such prompts are 1.8 to 2.1 times as fast (4 blocks of width 1024, one thread of an
EPYC). Bit masks are widened block by block for many tokens, so that they are no slower than dense there, or with AMX
faster than both; for faster prompts at less sparsity ask a table for their tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import takewhile

import torch
from torch import Tensor

from sparsearch.hardware.cost_model import Choice, Chooser, check_measured, rivals, site_shape
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


LITTLE = 1 / 4
"""Of a dense weight in float32, what two forms may take together."""

DENSE_BYTES = 4

GAIN = 1.1
"""How many times as fast a second form is at least, at every measured token count that it is for."""

Forms = tuple[tuple[StoredBackend, int | None], ...]
"""Backends with the most tokens that each is for, as in `Form`: the last one takes any number."""


def fastest_forms(
    levels: Mapping[Site, Level], table: Table, tokens: int, storage: str, *, one: bool = False
) -> dict[str, Forms]:
    """The backends that a table says are the fastest, by site name.

    The first is that of `tokens`, which the cost model has counted. A second one takes over where more tokens are
    multiplied, if it gains time there and both are small (`LITTLE`). Backends that this machine lacks are chosen too,
    as the table may be of the machine that the export is for.

    Args:
        levels: of every site.
        table: of the machine to run on.
        tokens: that are multiplied at once; 1 for decoding.
        storage: type of the checkpoint, by torch's name; kernels that round it further do not compete.
        one: whether there is no second form, as where a budget counts the bytes.

    Raises:
        ConfigError: a site's shape, or `tokens` with it, was not measured.
    """
    among = rivals("cpu", storage)
    choosers = {count: Chooser(table, count, among) for count in {cell.tokens for cell in table.cells}}
    found: dict[str, Forms] = {}
    for site, level in levels.items():
        check_measured(site, table, tokens)
        shape = site_shape(site)
        first = choosers[tokens].of(shape, level)
        more = {} if one else {count: choosers[count] for count in table.tokens_of(shape) if count >= tokens}
        found[site.name] = _forms(first, shape, level, more)
    return found


def _forms(first: Choice, shape: tuple[int, int], level: Level, choosers: Mapping[int, Chooser]) -> Forms:
    """The first form, and the one that is the fastest for the most tokens where it pays.

    Between two measured token counts the boundary is their geometric mean.

    Args:
        choosers: by token count in ascending order, that of the first form at the beginning; none for one form.
    """
    alone, counts = ((_stored(first.backend), None),), list(choosers)
    if len(counts) < 2:
        return alone
    second = choosers[counts[-1]].of(shape, level)
    if first.bytes + second.bytes > LITTLE * DENSE_BYTES * math.prod(shape):
        return alone

    def gains(count: int) -> bool:
        """Whether the second form pays for so many tokens."""
        own, other = (choosers[count].seconds(shape, level, choice.backend) for choice in (first, second))
        return GAIN * other <= own

    gaining = len(list(takewhile(gains, counts[:0:-1])))
    if not gaining:
        return alone
    boundary = math.isqrt(counts[-gaining - 1] * counts[-gaining])
    return (_stored(first.backend), boundary), (_stored(second.backend), None)


def _stored(name: str) -> StoredBackend:
    backend = BACKENDS[name]
    assert isinstance(backend, StoredBackend)
    return backend


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
        backend = _stored(name)
        able = backend.unavailable() is None and backend.refuses(shape, weight.dtype, "") is None
        pays = LEAST_SPARSITY.get(name, 0.0) <= sparsity <= MOST_SPARSITY.get(name, 1.0)
        # Where 16 bits hold the values, 32 bits never take fewer bytes.
        fits = STORED[name] in exact if name in STORED else not (exact and name == "bitmask_fp32")
        if able and pays and fits:
            candidates.append(backend)
    return candidates
