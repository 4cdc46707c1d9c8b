"""Block-sparse weights on a CUDA device, through torch's Triton kernels."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

import torch
from torch import Tensor

from sparsearch.hardware.kernels.base import Backend, Packed
from sparsearch.hardware.kernels.csr import quietly
from sparsearch.hardware.kernels.cuda_dense import NO_DEVICE
from sparsearch.hardware.kernels.torch_bsr import bsr_tensors

BLOCK = 32
TOKENS = 16


class CudaBSR(Backend):
    """torch's Triton kernel for BSR tensors of 32 by 32 blocks; pays only where whole blocks are zero."""

    name = "cuda_bsr"
    device = "cuda"
    tolerance = 1e-2
    skips_zeros = True

    def unavailable(self) -> str | None:
        """Without a device or Triton."""
        if not torch.cuda.is_available():
            return NO_DEVICE
        return None if importlib.util.find_spec("triton") else "the package triton is not installed"

    def refuses(self, shape: tuple[int, int], dtype: torch.dtype, label: str) -> str | None:
        """Sides that the block does not divide, and other types than the kernel takes."""
        if shape[0] % BLOCK or shape[1] % BLOCK:
            return f"takes sides that {BLOCK} divides; found {shape[0]} x {shape[1]}"
        if dtype not in (torch.float16, torch.bfloat16, torch.float32):
            return f"takes float16, bfloat16 and float32; found {dtype}"
        return None

    def pack(self, weight: Tensor) -> Packed:
        """Starts, block columns and blocks with at least one non-zero."""
        return self.open((weight.shape[0], weight.shape[1]), bsr_tensors(weight, BLOCK))

    def open(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Packed:
        """A copy on the device."""
        parts = (tensors[name].to(self.device) for name in ("crow", "col", "values"))
        return Packed(shape, tensors, quietly(torch.sparse_bsr_tensor, *parts, size=shape))

    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """`(W @ x.T).T`, with tokens padded to the 16 that the kernel wants; x lies on the device."""
        from torch.sparse._triton_ops import bsr_dense_mm

        assert isinstance(packed.handle, Tensor)
        padded = torch.nn.functional.pad(x, (0, 0, 0, -x.shape[0] % TOKENS))
        return bsr_dense_mm(packed.handle, padded.T.contiguous())[:, : x.shape[0]].T.contiguous()
