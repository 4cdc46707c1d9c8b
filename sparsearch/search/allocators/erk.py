"""Erdos-Renyi densities from shapes alone."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sparsearch.search.allocators import Allocator
from sparsearch.space import repair
from sparsearch.space.allocation import Allocation
from sparsearch.space.space import FloatArray


class ERK(Allocator):
    """Density in proportion to (out + in) / (out * in): small matrices keep more. Needs shapes alone.

    Evci et al., "Rigging the Lottery" (2020), for linear layers the Erdos-Renyi rule of Mocanu et al. (2018):
    density_u = min(1, c * (out + in) / (out * in)) with the one c that meets the budget, then the nearest
    levels. The original draws its masks at random; here it only says how many weights stay.
    """

    name: ClassVar[str] = "erk"

    def allocate(self) -> Allocation:
        """The largest c whose densities, rounded to levels by exact projection, meet the budget."""
        space, limits = self.problem.space, self.problem.limits
        wished = 1 - _densities(np.array([site.shape for site in space.sites], dtype=np.float64), self._kept())
        return repair.project(space, limits, wished)

    def _kept(self) -> float:
        """Weights that a uniform allocation under the same budget keeps."""
        space = self.problem.space
        return (1 - repair.uniform_sparsity(space, self.problem.limits)) * space.prunable


def _densities(shapes: FloatArray, kept: float) -> FloatArray:
    """`min(1, c * sum(shape) / prod(shape))` with `sum(density * size) = kept`, by bisection for c."""
    sizes, raw = shapes.prod(axis=1), shapes.sum(axis=1) / shapes.prod(axis=1)
    low, high = 0.0, 1 / raw.min()
    for _ in range(100):
        middle = (low + high) / 2
        fits = (np.minimum(1, middle * raw) * sizes).sum() <= kept
        low, high = (middle, high) if fits else (low, middle)
    return np.minimum(1, low * raw)
