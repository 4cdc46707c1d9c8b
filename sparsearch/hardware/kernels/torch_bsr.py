"""Compressed blocks by torch, which calls MKL."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsearch.hardware.kernels.base import Backend, Packed
from sparsearch.hardware.kernels.csr import in_chunks, quietly, refuses_dtype

BLOCK = 16


class TorchBSR(Backend):
    """torch's BSR tensors of 16 by 16 blocks; pays only where whole blocks are zero."""

    name = "torch_bsr"
    skips_zeros = True

    def unavailable(self) -> str | None:
        """Where torch was built without MKL."""
        return None if torch.backends.mkl.is_available() else "this torch was built without MKL"

    def refuses(self, shape: tuple[int, int], dtype: torch.dtype, label: str) -> str | None:
        """Sides that the block does not divide, and what MKL does not multiply."""
        if shape[0] % BLOCK or shape[1] % BLOCK:
            return f"takes sides that {BLOCK} divides; found {shape[0]} x {shape[1]}"
        return refuses_dtype(dtype)

    def pack(self, weight: Tensor) -> Packed:
        """Starts, block columns and blocks with at least one non-zero."""
        return self.open((weight.shape[0], weight.shape[1]), bsr_tensors(weight, BLOCK))

    def open(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Packed:
        """A view of the stored tensors."""
        parts = (tensors["crow"], tensors["col"], tensors["values"])
        return Packed(shape, tensors, quietly(torch.sparse_bsr_tensor, *parts, size=shape))

    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """Products with up to 64 columns."""
        matrix = packed.handle
        assert isinstance(matrix, Tensor)
        return in_chunks(x, packed.shape[0], lambda columns: matrix @ columns)


def bsr_tensors(weight: Tensor, block: int) -> dict[str, Tensor]:
    """Starts per row of blocks, block columns and the blocks of `weight` that are not all zero."""
    rows, columns = weight.shape[0] // block, weight.shape[1] // block
    blocks = weight.reshape(rows, block, columns, block).transpose(1, 2)
    row, column = (blocks != 0).any(-1).any(-1).nonzero(as_tuple=True)
    starts = torch.zeros(rows + 1, dtype=torch.int32)
    starts[1:] = torch.bincount(row, minlength=rows).cumsum(0)
    return {"crow": starts, "col": column.to(torch.int32), "values": blocks[row, column].contiguous()}
