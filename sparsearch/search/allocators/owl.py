"""Outlier-weighed layer-wise sparsity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsearch.search.allocators.statistic import StatisticAllocator, TextOptions
from sparsearch.search.base import Options
from sparsearch.search.checks import number
from sparsearch.search.wishes import banded, nearest
from sparsearch.space.allocation import Allocation


@dataclass(frozen=True, slots=True)
class OWLOptions(TextOptions):
    """Options of `owl`.

    Attributes:
        multiple: M, how many times the block's mean score an outlier exceeds.
        band: lambda, how far a block's sparsity may lie off the uniform one.
    """

    multiple: float = 5.0
    band: float = 0.08

    def __post_init__(self) -> None:
        TextOptions.__post_init__(self)
        number("multiple", self.multiple, 0)
        number("band", self.band, 0, 1)


class OWL(StatisticAllocator):
    """Blocks with more outliers keep more. One forward of a few sequences.

    Yin et al., "Outlier Weighed Layerwise Sparsity" (ICML 2024): the outlier ratio of a block is the share of its
    scores `|W_ij| * |X_j|` above M times their mean; sparsities are linear in it, within `S - lambda` and
    `S + lambda`. Deviations: blocks count by their weights, so that blocks of unequal size meet the budget, and
    M is 5 for every model (the paper tries 3 to 10).
    """

    name: ClassVar[str] = "owl"
    options_type: ClassVar[type[Options]] = OWLOptions
    options: OWLOptions
    statistic: ClassVar[str] = "outlier_ratio"

    def parameters(self) -> dict[str, float]:
        """M."""
        return {"multiple": float(self.options.multiple)}

    def allocate(self) -> Allocation:
        """The levels nearest to the wishes."""
        space, limits = self.problem.space, self.problem.limits
        return nearest(space, limits, banded(space, limits, self.measured, self.options.band))
