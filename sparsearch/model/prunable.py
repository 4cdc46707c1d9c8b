"""A loaded model together with what the engine needs to know about it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(eq=False)
class PrunableModel:
    """A transformer in evaluation mode, gradients off, whose blocks have been found.

    Attributes:
        module: the whole model; it computes in the dtype of its parameters.
        name: the path or hub name it came from.
        blocks: its transformer blocks in order.
        block_paths: their paths in `module`, such as `model.layers.0`.
        storage_dtype: the dtype of the checkpoint, in which exports are written (a float16 checkpoint may
            well compute in float32 here).
    """

    module: nn.Module
    name: str
    blocks: tuple[nn.Module, ...]
    block_paths: tuple[str, ...]
    storage_dtype: torch.dtype

    @property
    def storage_name(self) -> str:
        """torch's name of `storage_dtype`, such as `bfloat16`."""
        return str(self.storage_dtype).removeprefix("torch.")

    @property
    def device(self) -> torch.device:
        """Where the first parameter lies; inputs go there."""
        return next(self.module.parameters()).device
