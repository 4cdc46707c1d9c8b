"""Bit mask and float32 values."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsearch.hardware.kernels.bitmask import Bitmask


class BitmaskFloat32(Bitmask):
    """Our kernel for few tokens: bit mask and float32 values, which keeps the weights as they are."""

    name = "bitmask_fp32"
    kind = 0
    stored = torch.float32
    # 64 tokens take 1.2 times as long as with the weight spread once (Zen 5).
    most_tokens = 32

    def encode(self, weight: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """In float32."""
        return weight.to(torch.float32), {}
