"""Compressed sparse rows by torch, which calls MKL."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsearch.hardware.kernels.base import Packed, StoredBackend, layout_fault
from sparsearch.hardware.kernels.csr import csr_tensors, in_chunks, quietly, refuses_dtype


class TorchCSR(StoredBackend):
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

    def unpack(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Tensor:
        """Values to their rows and columns."""
        weight = tensors["values"].new_zeros(shape)
        rows = torch.repeat_interleave(torch.arange(shape[0]), tensors["crow"].diff().long())
        weight[rows, tensors["col"].long()] = tensors["values"]
        return weight

    def fault(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> str | None:
        """Rows or columns that the weight has not."""
        values = tensors.get("values")
        if values is None or refuses_dtype(values.dtype):
            return "tensor 'values' is missing or of the wrong type"
        wanted = {"crow": (torch.int32, 1), "col": (torch.int32, 1), "values": (values.dtype, 1)}
        if fault := layout_fault(tensors, wanted):
            return fault
        starts, columns = tensors["crow"], tensors["col"]
        counted = len(starts) == shape[0] + 1 and int(starts[0]) == 0 and int(starts[-1]) == len(values) == len(columns)
        if not counted or bool((starts.diff() < 0).any()):
            return "row starts do not fit the values"
        return "columns beyond the weight" if len(columns) and not _within(columns, shape[1]) else None

    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """A matrix-vector product for one token, else products with up to 64 columns."""
        matrix = packed.handle
        assert isinstance(matrix, Tensor)
        if x.shape[0] == 1:
            return (matrix @ x[0].contiguous()).unsqueeze(0)
        return in_chunks(x, packed.shape[0], lambda columns: matrix @ columns)


def _within(columns: Tensor, count: int) -> bool:
    return int(columns.min()) >= 0 and int(columns.max()) < count
