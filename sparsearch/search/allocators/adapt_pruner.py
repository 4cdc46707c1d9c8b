"""Adapt-Pruner: similarity of input and output, relative to the other blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sparsearch.search.allocators.statistic import StatisticAllocator, TextOptions
from sparsearch.search.base import Options
from sparsearch.search.checks import number
from sparsearch.search.wishes import nearest, shifted
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import uniform_sparsity


@dataclass(frozen=True, slots=True)
class AdaptPrunerOptions(TextOptions):
    """Options of `adapt_pruner`.

    Attributes:
        amplitude: A, how far the sparsity of the block that stands out most lies off the uniform one.
    """

    amplitude: float = 0.03

    def __post_init__(self) -> None:
        TextOptions.__post_init__(self)
        number("amplitude", self.amplitude, 0, 1)


class AdaptPruner(StatisticAllocator):
    """Blocks whose output is more like their input keep less, by a small amplitude. One forward of a few sequences.

    Pan et al., "Adapt-Pruner" (2025): importance `-cos(x, y)`, the mean over tokens, centred and scaled to within
    [-1, 1]; `sparsity = S - A * importance`. Deviation: the paper prunes in many small steps and measures the
    pruned and retrained model before each; this is one step on the dense model.
    """

    name: ClassVar[str] = "adapt_pruner"
    options_type: ClassVar[type[Options]] = AdaptPrunerOptions
    options: AdaptPrunerOptions
    statistic: ClassVar[str] = "block_influence"

    def allocate(self) -> Allocation:
        """The levels nearest to the wishes."""
        space, limits = self.problem.space, self.problem.limits
        centred = self.measured - self.measured.mean()
        most = np.abs(centred).max()
        importance = centred / most if most > 0 else centred
        wished = uniform_sparsity(space, limits) - self.options.amplitude * importance
        return nearest(space, limits, shifted(space, limits, wished))
