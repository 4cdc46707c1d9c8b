"""Bit mask and bfloat16 values."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsearch.hardware.kernels.bitmask import Bitmask


class BitmaskBfloat16(Bitmask):
    """Our kernel for few tokens, with AMX for any number: bit mask and bfloat16 values, summed in float32."""

    name = "bitmask_bf16"
    kind = 1
    stored = torch.bfloat16
    # Weights are rounded to 8 significant bits: by up to 2**-8 of themselves.
    tolerance = 4e-3

    def encode(self, weight: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Rounded to bfloat16."""
        return weight.to(torch.bfloat16), {}
