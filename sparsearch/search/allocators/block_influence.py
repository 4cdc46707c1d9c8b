"""Block influence, the criterion of ShortGPT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsearch.search.allocators.statistic import StatisticAllocator, TextOptions
from sparsearch.search.base import Options
from sparsearch.search.checks import number
from sparsearch.search.wishes import banded, nearest
from sparsearch.space.allocation import Allocation


@dataclass(frozen=True, slots=True)
class BlockInfluenceOptions(TextOptions):
    """Options of `block_influence`.

    Attributes:
        band: how far a block's sparsity may lie off the uniform one.
    """

    band: float = 0.08

    def __post_init__(self) -> None:
        TextOptions.__post_init__(self)
        number("band", self.band, 0, 1)


class BlockInfluence(StatisticAllocator):
    """Blocks that turn their input further keep more. One forward of a few sequences.

    Men et al., "ShortGPT" (2024): `BI = 1 - E cos(x, y)` over tokens, x a block's input and y its output. The
    paper drops the blocks of least influence; here, where every site has a level, the influence is mapped to
    sparsities as OWL's ratio is, linearly within `S - band` and `S + band`, with OWL's band.
    """

    name: ClassVar[str] = "block_influence"
    options_type: ClassVar[type[Options]] = BlockInfluenceOptions
    options: BlockInfluenceOptions
    statistic: ClassVar[str] = "block_influence"

    def allocate(self) -> Allocation:
        """The levels nearest to the wishes."""
        space, limits = self.problem.space, self.problem.limits
        return nearest(space, limits, banded(space, limits, self.measured, self.options.band))
