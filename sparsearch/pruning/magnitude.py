"""Magnitude pruning: the smallest weights go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Needs, Pattern, Pruned, Statistics, require_prunable
from .masks import Group, masks_by_score
from .options import require_one_of


@dataclass(frozen=True)
class Magnitude:
    """Removes the weights of least |W|, compared over the whole site or within each row (`group`)."""

    group: Group = "site"

    name: ClassVar[str] = "magnitude"
    statistics: ClassVar[Needs] = "none"
    updates_weights: ClassVar[bool] = False
    nested: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_one_of(self.name, "group", self.group, ("row", "site"))

    def prune(
        self,
        weight: Tensor,
        statistics: Statistics | None,
        patterns: Sequence[Pattern],
        generator: torch.Generator,
    ) -> Pruned:
        """See `Pruner.prune`; reads nothing of the input."""
        require_prunable(self, weight, statistics, patterns)
        return Pruned(masks_by_score(weight.detach().abs(), patterns, self.group), None)
