"""Bit mask and int8 values with one scale a row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsearch.hardware.kernels.bitmask import Bitmask

LARGEST = 127


class BitmaskInt8(Bitmask):
    """Our kernel for few tokens: bit mask and int8 values with a scale for each row; inputs are not rounded to int8."""

    name = "bitmask_int8"
    kind = 2
    stored = torch.int8
    # For rows of many weights of usual size: half a step is 1/254 of the row's largest weight.
    tolerance = 5e-2

    def encode(self, weight: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Rounded to steps of 1/127 of the row's largest weight.

        A row with a NaN has a NaN scale; in a row with an infinity only infinities count, and their scale is one.
        """
        full = weight.to(torch.float32)
        # A row of zeros has any scale but 0.
        scales = full.abs().amax(1).div(LARGEST)
        scales[scales == 0] = 1.0
        steps = torch.where(full.isinf(), full.sign(), full / scales[:, None])
        steps = steps.nan_to_num(0.0).round().clamp(-LARGEST, LARGEST)
        return steps.to(torch.int8), {"scales": scales, "sums": steps.sum(1).to(torch.int32)}

    def beside(self, shape: tuple[int, int]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """A scale and the sum of the stored values for each row."""
        return {"scales": (torch.float32, shape[:1]), "sums": (torch.int32, shape[:1])}

    def unpack(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Tensor:
        """Steps times scales, float32."""
        return super().unpack(shape, tensors).to(torch.float32) * tensors["scales"][:, None]
