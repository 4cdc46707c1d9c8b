"""Compressed sparse rows by torch, which calls MKL."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsearch.hardware.kernels.base import Backend, Packed
from sparsearch.hardware.kernels.csr import csr_tensors, in_chunks, quietly, refuses_dtype


class TorchCSR(Backend):
    """torch's CSR tensors, from the left (`W @ x.T`), which is several times faster than `F.linear` on them."""

    name = "torch_csr"
    skips_zeros = True

    def unavailable(self) -> str | None:
        """Where torch was built without MKL."""
        return None if torch.backends.mkl.is_available() else "this torch was built without MKL"

    def refuses(self, shape: tuple[int, int], dtype: torch.dtype, label: str) -> str | None:
        """What MKL multiplies."""
        return refuses_dtype(dtype)

    def pack(self, weight: Tensor) -> Packed:
        """Row starts, columns and values of the non-zeros."""
        return self.open((weight.shape[0], weight.shape[1]), csr_tensors(weight))

    def open(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Packed:
        """A view of the stored tensors."""
        parts = (tensors["crow"], tensors["col"], tensors["values"])
        return Packed(shape, tensors, quietly(torch.sparse_csr_tensor, *parts, size=shape))

    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """A matrix-vector product for one token, else products with up to 64 columns."""
        matrix = packed.handle
        assert isinstance(matrix, Tensor)
        if x.shape[0] == 1:
            return (matrix @ x[0].contiguous()).unsqueeze(0)
        return in_chunks(x, packed.shape[0], lambda columns: matrix @ columns)
