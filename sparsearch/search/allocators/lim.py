"""LIM: blocks ranked by how much they change their input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsearch.search.allocators.statistic import StatisticAllocator, TextOptions
from sparsearch.search.allocators.tiers import check_tiers, tiered
from sparsearch.search.base import Options
from sparsearch.search.wishes import nearest
from sparsearch.space.allocation import Allocation


@dataclass(frozen=True, slots=True)
class LIMOptions(TextOptions):
    """Options of `lim`.

    Attributes:
        share: of the sites that belong to the more important tier.
        gap: between the sparsities of the two tiers.
    """

    share: float = 0.5
    gap: float = 0.2

    def __post_init__(self) -> None:
        TextOptions.__post_init__(self)
        check_tiers(self.share, self.gap)


class LIM(StatisticAllocator):
    """The half of the blocks that change their input most keeps more. One forward of a few sequences.

    Dumitru et al., "Layer-Wise Quantization" (2024): `LIM = -cos(X, Y)`, X a block's input and Y its output, taken
    as one vector a sequence; blocks are ranked by it, and the higher ranks get more bits. Here they get the lower
    of two sparsities. The paper varies the share of the higher ranks; 0.5 and a gap of 0.2 are ours.
    """

    name: ClassVar[str] = "lim"
    options_type: ClassVar[type[Options]] = LIMOptions
    options: LIMOptions
    statistic: ClassVar[str] = "block_change"

    def allocate(self) -> Allocation:
        """The levels nearest to the wishes."""
        space, limits, options = self.problem.space, self.problem.limits, self.options
        return nearest(space, limits, tiered(space, limits, self.measured, options.share, options.gap))
