"""Compressed sparse rows by torch, which calls MKL."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsearch.errors import ResourceError
from sparsearch.hardware.kernels.base import Packed, StoredBackend
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
        """A view of the stored tensors, once they are checked."""
        self.check(shape, tensors)
        parts = (tensors["crow"], tensors["col"], tensors["values"])
        return Packed(shape, tensors, quietly(torch.sparse_csr_tensor, *parts, size=shape))

    def unpack(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Tensor:
        """Values to their rows and columns."""
        weight = tensors["values"].new_zeros(shape)
        rows = torch.repeat_interleave(torch.arange(shape[0]), tensors["crow"].diff().long())
        weight[rows, tensors["col"].long()] = tensors["values"]
        return weight

    def check(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> None:
        """Refuses rows or columns that the weight has not, and other types."""
        if not _fits(shape, tensors):
            raise ResourceError(
                f"{self.name}: the stored tensors are not those of a weight {shape[0]} x {shape[1]}; pack it again"
            )

    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """A matrix-vector product for one token, else products with up to 64 columns."""
        matrix = packed.handle
        assert isinstance(matrix, Tensor)
        if x.shape[0] == 1:
            return (matrix @ x[0].contiguous()).unsqueeze(0)
        return in_chunks(x, packed.shape[0], lambda columns: matrix @ columns)


def _fits(shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> bool:
    if tensors.keys() != {"crow", "col", "values"} or any(tensor.dim() != 1 for tensor in tensors.values()):
        return False
    starts, columns, values = tensors["crow"], tensors["col"], tensors["values"]
    if refuses_dtype(values.dtype) or starts.dtype != torch.int32 or columns.dtype != torch.int32:
        return False
    if len(starts) != shape[0] + 1 or int(starts[0]) != 0 or not int(starts[-1]) == len(values) == len(columns):
        return False
    rising = bool((starts.diff() >= 0).all())
    return rising and (not len(columns) or (int(columns.min()) >= 0 and int(columns.max()) < shape[1]))
