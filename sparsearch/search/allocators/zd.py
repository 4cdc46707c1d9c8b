"""ZD: blocks ranked by how many of their weights stand out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsearch.search.allocators.statistic import StatisticAllocator
from sparsearch.search.allocators.tiers import check_tiers, tiered
from sparsearch.search.base import Options
from sparsearch.search.checks import number
from sparsearch.search.wishes import nearest
from sparsearch.space.allocation import Allocation


@dataclass(frozen=True, slots=True)
class ZDOptions(Options):
    """Options of `zd`.

    Attributes:
        share: of the sites that belong to the more important tier.
        gap: between the sparsities of the two tiers.
        threshold: in standard deviations above the mean weight.
    """

    share: float = 0.5
    gap: float = 0.2
    threshold: float = 1.0

    def __post_init__(self) -> None:
        check_tiers(self.share, self.gap)
        number("threshold", self.threshold, 0)


class ZD(StatisticAllocator):
    """The half of the blocks with the fewest large weights keeps more. Needs the weights alone.

    Dumitru et al., "Layer-Wise Quantization" (2024): `ZD` is the share of a block's weights with a z-score above 1;
    blocks with a smaller one are more important, are ranked higher, and get more bits. Here they get the lower of
    two sparsities. The paper varies the share of the higher ranks; 0.5 and a gap of 0.2 are ours.
    """

    name: ClassVar[str] = "zd"
    options_type: ClassVar[type[Options]] = ZDOptions
    options: ZDOptions
    statistic: ClassVar[str] = "z_outliers"

    def parameters(self) -> dict[str, float]:
        """The threshold."""
        return {"threshold": float(self.options.threshold)}

    def allocate(self) -> Allocation:
        """The levels nearest to the wishes."""
        space, limits, options = self.problem.space, self.problem.limits, self.options
        return nearest(space, limits, tiered(space, limits, -self.measured, options.share, options.gap))
