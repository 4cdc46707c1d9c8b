"""Error of the last hidden states, for models without a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from sparsearch.evaluation.objectives.base import Outputs
from sparsearch.model.blockwise import Batch


class HiddenError:
    """`||h - h_dense||^2 / ||h_dense||^2` of a sequence's last hidden states."""

    name: ClassVar[str] = "hidden"
    title: ClassVar[str] = "hidden-state error"
    unit: ClassVar[str] = ""
    needs_teacher: ClassVar[bool] = True
    needs_head: ClassVar[bool] = False
    passes: ClassVar[int] = 1

    def values(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        """Float64 `[batch]`."""
        assert teacher is not None
        dense = teacher.hidden.double().flatten(1)
        error = (student.hidden.double().flatten(1) - dense).square().sum(dim=1)
        return (error / dense.square().sum(dim=1)).cpu()

    def probe(
        self, student: Outputs, teacher: Outputs | None, batch: Batch, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """`sqrt(2) * <z, h> / ||h_dense||` with Gaussian z: E[z z^T] = I gives J^T J of the squared error."""
        assert teacher is not None
        shape = student.hidden.shape[1:]
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(student.hidden)
        scale = teacher.hidden.double().flatten(1).square().sum(dim=1).rsqrt() * 2**0.5
        return (student.hidden * noise).flatten(1).double().sum(dim=1) * scale
