"""Compressed sparse rows by scipy: one thread, no vector instructions; a reference that is always there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sparsearch.hardware.kernels.base import Backend, Packed
from sparsearch.hardware.kernels.csr import csr_tensors, refuses_dtype, scipy_view


class ScipyCSR(Backend):
    """scipy's CSR matrices."""

    name = "scipy_csr"
    skips_zeros = True

    def unavailable(self) -> str | None:
        """Never: scipy is required."""
        return None

    def refuses(self, shape: tuple[int, int], dtype: torch.dtype, label: str) -> str | None:
        """What numpy has a type for."""
        return refuses_dtype(dtype)

    def pack(self, weight: Tensor) -> Packed:
        """Row starts, columns and values of the non-zeros."""
        return self.open((weight.shape[0], weight.shape[1]), csr_tensors(weight))

    def open(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Packed:
        """A view of the stored tensors."""
        return Packed(shape, tensors, scipy_view(shape, tensors))

    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """`(W @ x.T).T`."""
        matrix: Any = packed.handle
        return torch.from_numpy(matrix @ x.detach().T.numpy()).T.contiguous()
