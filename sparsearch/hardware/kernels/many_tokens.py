"""Products of our bit mask and dense kernels with any number of tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsearch.hardware import native
from sparsearch.hardware.kernels.dense_prepacked import DensePrepacked

MOST_TOKENS = 64
"""With more, widening a weight for every eight tokens takes longer than widening it once, into memory."""

BUFFER = 4 * 2**20
"""Bytes of rows that are widened together: they stay in the caches."""


def product(weight: native.Handle, x: Tensor, rows: int) -> Tensor:
    """`x @ W.T` of x `[tokens, columns]`, of the type of x; for many tokens torch's, on rows that are widened for it.

    With 256 tokens the multiplications take most of the time, and the libraries make those of larger tiles: widening
    all rows to float32 first takes 3 % of it, and the product as long as a dense one, with any instructions. (One
    thread, Zen 4: 10 to 17 % faster than our own for float32 and float16, 1.7 times with AVX2 alone.) With AMX our own
    are faster at any number.

    Raises:
        ValueError: x does not fit the weight.
    """
    # Widened, the zeros of a row with an infinite scale would be NaN.
    if x.shape[0] <= MOST_TOKENS or not weight.weight.finite or native.in_tiles(weight):
        return native.product("sparsearch_bitmask", weight, x, rows)
    inputs, columns = native.inputs(weight, x).detach(), weight.weight.columns
    out = torch.empty(inputs.shape[0], rows)
    dense = torch.nn.functional.linear if DensePrepacked().unavailable() else _by_onednn
    buffer = torch.empty(min(rows, max(64, BUFFER // (4 * columns) // 2 * 2)), columns)
    for first in range(0, rows, len(buffer)):
        last = min(first + len(buffer), rows)
        native.widen(weight, first, buffer[: last - first])
        out[:, first:last] = dense(inputs, buffer[: last - first])
    return out if x.dtype == torch.float32 else out.to(x.dtype)


def _by_onednn(x: Tensor, weight: Tensor) -> Tensor:
    """Faster than `F.linear` for so many tokens on plain weights too."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return product
