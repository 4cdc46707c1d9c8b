"""Layer-wise relevance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsearch.search.allocators.statistic import StatisticAllocator, TextOptions
from sparsearch.search.base import Options
from sparsearch.search.checks import number
from sparsearch.search.wishes import banded, nearest
from sparsearch.space.allocation import Allocation


@dataclass(frozen=True, slots=True)
class LRPOptions(TextOptions):
    """Options of `lrp`.

    Attributes:
        band: how far a site's sparsity may lie off the uniform one.
    """

    band: float = 0.08

    def __post_init__(self) -> None:
        TextOptions.__post_init__(self)
        number("band", self.band, 0, 1)


class LRP(StatisticAllocator):
    """Sites through which more relevance flows keep more. One forward and backward of a few sequences.

    After Ranjan and Savakis, "LRP-QViT" (2024), which gives a layer bits by the sum of its relevance: the
    relevance of a site is the sum of `|y * dL/dy|` over its outputs, mapped to sparsities as OWL's ratio is, with
    OWL's band. Deviations: the basic rule of layer-wise relevance propagation, activation times gradient, in
    place of rules of its own for attention; the loss is the cross-entropy of the text.
    """

    name: ClassVar[str] = "lrp"
    options_type: ClassVar[type[Options]] = LRPOptions
    options: LRPOptions
    statistic: ClassVar[str] = "relevance"

    def allocate(self) -> Allocation:
        """The levels nearest to the wishes."""
        space, limits = self.problem.space, self.problem.limits
        return nearest(space, limits, banded(space, limits, self.measured, self.options.band))
