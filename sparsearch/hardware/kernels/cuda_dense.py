"""Dense products on a CUDA device: the baseline there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsearch.hardware.kernels.base import Backend, Packed

NO_DEVICE = "no CUDA device"


class CudaDense(Backend):
    """`torch.nn.functional.linear` on a CUDA device, which calls cuBLAS."""

    name = "cuda_dense"
    device = "cuda"

    def unavailable(self) -> str | None:
        """Without a device."""
        return None if torch.cuda.is_available() else NO_DEVICE

    def pack(self, weight: Tensor) -> Packed:
        """The weight itself, contiguous."""
        return self.open((weight.shape[0], weight.shape[1]), {"weight": weight.contiguous()})

    def open(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Packed:
        """A copy on the device."""
        return Packed(shape, tensors, tensors["weight"].to(self.device))

    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """`x @ W.T`; x lies on the device."""
        assert isinstance(packed.handle, Tensor)
        return torch.nn.functional.linear(x, packed.handle)
