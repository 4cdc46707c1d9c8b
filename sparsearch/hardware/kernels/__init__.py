"""Kernel backends, one file each, by name."""

from __future__ import annotations

from typing import Any

from sparsearch.hardware.kernels.base import Backend, Packed, StoredBackend
from sparsearch.hardware.kernels.bitmask_bf16 import BitmaskBfloat16
from sparsearch.hardware.kernels.bitmask_fp16 import BitmaskFloat16
from sparsearch.hardware.kernels.bitmask_fp32 import BitmaskFloat32
from sparsearch.hardware.kernels.bitmask_int8 import BitmaskInt8
from sparsearch.hardware.kernels.csr16 import Csr16
from sparsearch.hardware.kernels.cuda_bsr import CudaBSR
from sparsearch.hardware.kernels.cuda_dense import CudaDense
from sparsearch.hardware.kernels.cuda_semi_structured import CudaSemiStructured
from sparsearch.hardware.kernels.dense import Dense
from sparsearch.hardware.kernels.dense_bf16 import DenseBfloat16
from sparsearch.hardware.kernels.dense_fp16 import DenseFloat16
from sparsearch.hardware.kernels.dense_prepacked import DensePrepacked
from sparsearch.hardware.kernels.scipy_csr import ScipyCSR
from sparsearch.hardware.kernels.sparse_dot_mkl import SparseDotMKL
from sparsearch.hardware.kernels.torch_bsr import TorchBSR
from sparsearch.hardware.kernels.torch_csr import TorchCSR

__all__ = ["BACKENDS", "Backend", "Packed", "StoredBackend", "describe_kernels"]

BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Dense(),
        DensePrepacked(),
        DenseBfloat16(),
        DenseFloat16(),
        TorchCSR(),
        TorchBSR(),
        ScipyCSR(),
        SparseDotMKL(),
        BitmaskFloat32(),
        BitmaskBfloat16(),
        BitmaskFloat16(),
        BitmaskInt8(),
        Csr16(),
        CudaDense(),
        CudaSemiStructured(),
        CudaBSR(),
    )
}
"""All backends, available here or not."""


def describe_kernels() -> list[dict[str, Any]]:
    """Every backend by name with its summary, device, and why it is unavailable here (None where it is not)."""
    return [
        {
            "name": backend.name,
            "summary": (type(backend).__doc__ or "").strip().splitlines()[0],
            "device": backend.device,
            "tolerance": backend.tolerance,
            "unavailable": backend.unavailable(),
        }
        for backend in BACKENDS.values()
    ]
