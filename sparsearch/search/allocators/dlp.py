"""Dynamic layer-wise pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsearch.search.allocators.statistic import StatisticAllocator, TextOptions
from sparsearch.search.base import Options
from sparsearch.search.checks import number
from sparsearch.search.wishes import banded, nearest
from sparsearch.space.allocation import Allocation


@dataclass(frozen=True, slots=True)
class DLPOptions(TextOptions):
    """Options of `dlp`.

    Attributes:
        band: alpha, how far a block's sparsity may lie off the uniform one (the paper: 0.15 at 70 %).
    """

    band: float = 0.15

    def __post_init__(self) -> None:
        TextOptions.__post_init__(self)
        number("band", self.band, 0, 1)


class DLP(StatisticAllocator):
    """Blocks whose median score is high keep less. One forward of a few sequences.

    Chen et al., "DLP: Dynamic Layerwise Pruning in Large Language Models" (ICML 2025): with m the median of a
    block's scores `|W_ij| * |X_j|` its importance is `1 - m / sum of all m`, mapped linearly to sparsities within
    `S - alpha` and `S + alpha`. Deviation: the median everywhere, where the released code takes the mean for
    unstructured sparsity.
    """

    name: ClassVar[str] = "dlp"
    options_type: ClassVar[type[Options]] = DLPOptions
    options: DLPOptions
    statistic: ClassVar[str] = "median_score"

    def allocate(self) -> Allocation:
        """The levels nearest to the wishes; a linear map needs no division by the sum."""
        space, limits = self.problem.space, self.problem.limits
        return nearest(space, limits, banded(space, limits, -self.measured, self.options.band))
