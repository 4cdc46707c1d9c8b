"""Compressed sparse rows as torch, MKL and scipy take them: what the backends on them share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sparsearch.hardware.kernels.base import Backend, Packed

MOST_TOKENS = 64
"""Tokens per product of a library: beyond it the columns of the input no longer fit the caches."""


def csr_tensors(weight: Tensor) -> dict[str, Tensor]:
    """Row starts `crow`, columns `col` and `values` of the non-zeros of `weight`.

    Indices are int32: MKL converts int64 ones in every call.
    """
    rows, columns = weight.nonzero(as_tuple=True)
    starts = torch.zeros(weight.shape[0] + 1, dtype=torch.int32)
    starts[1:] = torch.bincount(rows, minlength=weight.shape[0]).cumsum(0)
    return {"crow": starts, "col": columns.to(torch.int32), "values": weight[rows, columns].contiguous()}


def quietly(make: Callable[..., Tensor], *tensors: Tensor, size: tuple[int, int]) -> Tensor:
    """A compressed tensor without torch's warning that these are in beta state."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return make(*tensors, size=size, check_invariants=False)


def in_chunks(x: Tensor, outputs: int, product: Callable[[Tensor], Tensor]) -> Tensor:
    """`product` of at most `MOST_TOKENS` rows of `x` at a time, each `[outputs, tokens]`, as `[tokens, outputs]`."""
    out = x.new_empty(x.shape[0], outputs)
    for start in range(0, x.shape[0], MOST_TOKENS):
        chunk = x[start : start + MOST_TOKENS]
        out[start : start + MOST_TOKENS] = product(chunk.T.contiguous()).T
    return out


def refuses_dtype(dtype: torch.dtype) -> str | None:
    """The libraries multiply compressed rows in these alone."""
    return None if dtype in (torch.float32, torch.float64) else f"takes float32 and float64; found {dtype}"


def scipy_view(shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> object:
    """The stored tensors as a scipy matrix, not copied."""
    from scipy.sparse import csr_matrix

    return csr_matrix((tensors["values"].numpy(), tensors["col"].numpy(), tensors["crow"].numpy()), shape=shape)


class ScipyRows(Backend):
    """A backend on scipy's CSR matrices; how they are multiplied is its own."""

    skips_zeros = True

    def refuses(self, shape: tuple[int, int], dtype: torch.dtype, label: str) -> str | None:
        """What the libraries multiply."""
        return refuses_dtype(dtype)

    def pack(self, weight: Tensor) -> Packed:
        """Row starts, columns and values of the non-zeros."""
        return self.open((weight.shape[0], weight.shape[1]), csr_tensors(weight))

    def open(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Packed:
        """A view of the stored tensors."""
        return Packed(shape, tensors, scipy_view(shape, tensors))
