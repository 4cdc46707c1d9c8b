"""Erdos-Renyi densities from shapes alone."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sparsearch.search.allocators import Allocator
from sparsearch.search.wishes import kept_in_proportion, nearest
from sparsearch.space.allocation import Allocation


class ERK(Allocator):
    """Density in proportion to (out + in) / (out * in): small matrices keep more. Needs shapes alone.

    Evci et al., "Rigging the Lottery" (2020), for linear layers the Erdos-Renyi rule of Mocanu et al. (2018):
    density_u = min(1, c * (out + in) / (out * in)) with the one c that meets the budget, then the nearest
    levels. The original draws its masks at random; here it only says how many weights stay.
    """

    name: ClassVar[str] = "erk"

    def allocate(self) -> Allocation:
        """The levels nearest to the densities."""
        space, limits = self.problem.space, self.problem.limits
        shapes = np.array([site.shape for site in space.sites], dtype=np.float64)
        return nearest(space, limits, kept_in_proportion(space, limits, shapes.sum(axis=1) / shapes.prod(axis=1)))
