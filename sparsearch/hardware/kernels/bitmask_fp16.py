"""Bit mask and float16 values."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsearch.hardware.kernels.bitmask import Bitmask


class BitmaskFloat16(Bitmask):
    """Our kernel for few tokens: bit mask and float16 values, summed in float32."""

    name = "bitmask_fp16"
    kind = 3
    stored = torch.float16
    # 64 tokens take 1.2 times as long as with the weight spread once (Zen 5).
    most_tokens = 32
    # Weights are rounded to 11 significant bits; those below 6e-5 to steps of 6e-8, those above 65504 to infinity.
    tolerance = 1e-3

    def encode(self, weight: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Rounded to float16."""
        return weight.to(torch.float16), {}
