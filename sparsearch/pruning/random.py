"""Random pruning: the floor that every other pruner has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Needs, Pattern, Pruned, Statistics, require_prunable
from .masks import masks_by_score


@dataclass(frozen=True)
class Random:
    """Removes weights of the whole site in an order drawn uniformly from the generator."""

    name: ClassVar[str] = "random"
    statistics: ClassVar[Needs] = "none"
    updates_weights: ClassVar[bool] = False
    nested: ClassVar[bool] = True

    def prune(
        self,
        weight: Tensor,
        statistics: Statistics | None,
        patterns: Sequence[Pattern],
        generator: torch.Generator,
    ) -> Pruned:
        """See `Pruner.prune`; reads nothing of the input."""
        require_prunable(self, weight, statistics, patterns)
        order = torch.randperm(weight.numel(), generator=generator, device=generator.device)
        scores = order.to(weight.device).view(weight.shape)
        return Pruned(masks_by_score(scores, patterns, "site"), None)
