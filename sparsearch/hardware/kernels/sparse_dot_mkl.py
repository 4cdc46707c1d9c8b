"""Compressed sparse rows by MKL through the package sparse_dot_mkl."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from types import ModuleType

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
            return "the package sparse_dot_mkl is not installed (pip install sparse_dot_mkl mkl)"
        try:
            _opened()
        except (ImportError, OSError) as error:
            return f"sparse_dot_mkl finds no MKL: {error}"
        return None

    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """Products with up to 64 columns."""
        dot_product = _opened().dot_product_mkl
        return in_chunks(
            x.detach(),
            packed.shape[0],
            lambda columns: torch.from_numpy(dot_product(packed.handle, columns.numpy())),
        )


def open_mkl() -> None:
    """Loads the library of the package mkl: it lies in a folder where sparse_dot_mkl, which asks for its name, does
    not look, but a library that is loaded is found. One that `MKL_RT` names goes first.
    """
    if "MKL_RT" in os.environ:
        return
    with suppress(PackageNotFoundError):
        for file in files("mkl") or ():
            if file.name.startswith("libmkl_rt."):
                ctypes.CDLL(str(file.locate()))


@cache
def _opened() -> ModuleType:
    # Once: products are timed.
    open_mkl()
    import sparse_dot_mkl

    return sparse_dot_mkl
