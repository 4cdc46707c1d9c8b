"""Products of our bit mask and dense kernels with any number of tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsearch.hardware import native
from sparsearch.hardware.kernels.dense_prepacked import DensePrepacked

FEW = 16
"""Tokens that our own kernels always take."""

BUFFER = 4 * 2**20
"""Bytes of rows that are spread together: they stay in the caches."""


def product(weight: native.Handle, x: Tensor, rows: int, most: int) -> Tensor:
    """`x @ W.T` of x `[..., columns]`, of the type of x; for many tokens torch's, on rows that are spread for it.

    With 256 tokens the multiplications take most of the time, and the libraries make those of larger tiles: spreading
    all rows first takes 3 % of it, and the product as long as a dense one, with any instructions. (One thread, Zen 4:
    10 to 17 % faster than our own for float32 and float16, 1.7 times with AVX2 alone.) Where weights and inputs are
    bfloat16 and the processor multiplies that, it is 1.9 to 2.5 times as fast as our own for 64 tokens already (Zen 5).
    With AMX our own are faster at any number.

    Args:
        most: tokens up to which our own kernel is the faster one where the product is in float32.

    Raises:
        ValueError: x does not fit the weight.
    """
    tokens = x.numel() // x.shape[-1]
    # Spread, the zeros of a row with an infinite scale would be NaN.
    own = tokens <= FEW or not weight.weight.finite or native.in_tiles(weight)
    dtype = torch.float32 if own else _multiplied_in(weight, x)
    if own or (dtype == torch.float32 and tokens <= most):
        return native.product("sparsearch_bitmask", weight, x, rows)
    columns = weight.weight.columns
    inputs = native.inputs(weight, x, dtype).detach().view(tokens, columns)
    out = torch.empty(tokens, rows, dtype=dtype)
    dense = torch.nn.functional.linear if DensePrepacked().unavailable() else _by_onednn
    buffer = torch.empty(min(rows, max(64, BUFFER // (dtype.itemsize * columns) // 2 * 2)), columns, dtype=dtype)
    for first in range(0, rows, len(buffer)):
        last = min(first + len(buffer), rows)
        native.widen(weight, first, buffer[: last - first])
        out[:, first:last] = dense(inputs, buffer[: last - first])
    return out.to(x.dtype).view(*x.shape[:-1], rows)


def _multiplied_in(weight: native.Handle, x: Tensor) -> torch.dtype:
    """bfloat16 where both are and oneDNN multiplies it quickly: sums are in float32 there too."""
    fast = x.dtype == torch.bfloat16 and native.spreads(weight) and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def _by_onednn(x: Tensor, weight: Tensor) -> Tensor:
    """Faster than `F.linear` for so many tokens on plain weights too."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return product
