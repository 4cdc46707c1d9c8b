"""Error of the last hidden states, for models without a vocabulary."""

from __future__ import annotations

from typing import ClassVar

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

    def values(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        """Float64 `[batch]`."""
        assert teacher is not None
        dense = teacher.hidden.double().flatten(1)
        error = (student.hidden.double().flatten(1) - dense).square().sum(dim=1)
        return (error / dense.square().sum(dim=1)).cpu()
