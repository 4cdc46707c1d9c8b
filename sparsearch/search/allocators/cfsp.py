"""CFSP: the coarse importance of blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sparsearch.search.allocators.statistic import StatisticAllocator, TextOptions
from sparsearch.search.base import Options
from sparsearch.search.checks import number
from sparsearch.search.wishes import kept_in_proportion, nearest
from sparsearch.space.allocation import Allocation

SLOPE = 128 * 2048 / 1e4
"""The paper sums over the tokens of 128 sequences and divides by 10,000; we average."""


@dataclass(frozen=True, slots=True)
class CFSPOptions(TextOptions):
    """Options of `cfsp`.

    Attributes:
        steepness: a, the factor inside the sigmoid.
    """

    steepness: float = 1.0

    def __post_init__(self) -> None:
        TextOptions.__post_init__(self)
        number("steepness", self.steepness, 0)


class CFSP(StatisticAllocator):
    """Blocks keep in proportion to a sigmoid of the angle by which they turn. One forward of a few sequences.

    Wang et al., "CFSP: Coarse-to-Fine Activation Information" (COLING 2025), the coarse part: the angle is the
    mean over tokens of `arccos(cos(x, y)) / pi`, x a block's input and y its output; the importance is
    `sigmoid(a * 26.2 * (angle - mean angle))`, and densities are in proportion to it, at most 1. Deviation: all
    sites of a block take part, where the paper prunes the FFN alone.
    """

    name: ClassVar[str] = "cfsp"
    options_type: ClassVar[type[Options]] = CFSPOptions
    options: CFSPOptions
    statistic: ClassVar[str] = "angular_distance"

    def allocate(self) -> Allocation:
        """The levels nearest to the wishes."""
        space, limits = self.problem.space, self.problem.limits
        exponent = self.options.steepness * SLOPE * (self.measured - self.measured.mean())
        importance = 1 / (1 + np.exp(-np.clip(exponent, -50, 50)))
        return nearest(space, limits, kept_in_proportion(space, limits, importance))
