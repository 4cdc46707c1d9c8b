"""Working on logits: a few positions at a time, so that they never fill the memory, and never in half precision."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

POSITIONS = 512


def position_chunks(tokens: int) -> Iterator[slice]:
    """Slices that cover `tokens` positions."""
    for start in range(0, tokens, POSITIONS):
        yield slice(start, min(start + POSITIONS, tokens))


def full_precision(logits: Tensor) -> Tensor:
    """Logits in float32, or float64 where the model computes in it."""
    return logits if logits.dtype == torch.float64 else logits.float()
