"""Compressed sparse rows by MKL through the package sparse_dot_mkl."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from sparsearch.hardware.kernels.base import Packed
from sparsearch.hardware.kernels.csr import ScipyRows, in_chunks


class SparseDotMKL(ScipyRows):
    """MKL's sparse product on scipy matrices, where sparse_dot_mkl is installed."""

    name = "sparse_dot_mkl"

    def unavailable(self) -> str | None:
        """Where the package is missing or finds no MKL."""
        if importlib.util.find_spec("sparse_dot_mkl") is None:
            return "the package sparse_dot_mkl is not installed (pip install sparse_dot_mkl)"
        try:
            import sparse_dot_mkl  # noqa: F401
        except (ImportError, OSError) as error:
            return f"sparse_dot_mkl finds no MKL: {error}"
        return None

    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """Products with up to 64 columns."""
        from sparse_dot_mkl import dot_product_mkl

        return in_chunks(
            x.detach(),
            packed.shape[0],
            lambda columns: torch.from_numpy(dot_product_mkl(packed.handle, columns.numpy())),
        )
