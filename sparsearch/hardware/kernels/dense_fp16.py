"""Dense float16 weights for our own kernel."""

from __future__ import annotations

import torch

from sparsearch.hardware.kernels.dense_half import DenseHalf


class DenseFloat16(DenseHalf):
    """Our dense kernel for few tokens: all weights in float16, summed in float32."""

    name = "dense_fp16"
    kind = 5
    stored = torch.float16
    # As with bit masks of float16.
    tolerance = 1e-3
