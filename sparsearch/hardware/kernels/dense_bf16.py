"""Dense bfloat16 weights for our own kernel."""

from __future__ import annotations

import torch

from sparsearch.hardware.kernels.dense_half import DenseHalf


class DenseBfloat16(DenseHalf):
    """Our dense kernel for few tokens, with AMX for any number: all weights in bfloat16, summed in float32."""

    name = "dense_bf16"
    kind = 4
    stored = torch.bfloat16
    # As with bit masks of bfloat16.
    tolerance = 4e-3
