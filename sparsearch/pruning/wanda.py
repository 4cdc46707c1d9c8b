"""Wanda (arXiv 2306.11695): the weights go whose product with their input is smallest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Needs, Pattern, Pruned, Statistics, require_prunable
from .masks import Group, masks_by_score
from .options import require_one_of


def wanda_scores(weight: Tensor, statistics: Statistics) -> Tensor:
    """|W_ij| * sqrt(mean over tokens of x_j^2), float32 `[out, in]`; |W| where the input is all zero."""
    magnitude = weight.detach().float().abs()
    square_sum = statistics.square_sum.to(weight.device)
    if not square_sum.any():
        return magnitude
    return magnitude * (square_sum / statistics.tokens).sqrt().float()


@dataclass(frozen=True)
class Wanda:
    """Removes the weights of least |W_ij| * rms(x_j), compared within each row or over the site (`group`)."""

    group: Group = "row"

    name: ClassVar[str] = "wanda"
    statistics: ClassVar[Needs] = "norms"
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
        """See `Pruner.prune`; reads `square_sum`."""
        require_prunable(self, weight, statistics, patterns)
        assert statistics is not None
        return Pruned(masks_by_score(wanda_scores(weight, statistics), patterns, self.group), None)
