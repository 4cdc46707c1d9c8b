"""Erdos-Renyi densities without redistribution."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sparsearch.search.allocators import Allocator
from sparsearch.search.wishes import nearest, shifted
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import uniform_sparsity


class ErdosRenyi(Allocator):
    """Density in proportion to (out + in) / (out * in), what exceeds 1 spread evenly. Needs shapes alone.

    Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse connectivity" (2018): each
    weight exists with probability `epsilon (out + in) / (out * in)`. Epsilon is taken from the number of weights
    that a uniform allocation keeps; densities beyond 1 are cut, and what they lose goes to all other sites in equal
    measure, where ERK raises the others in proportion. Where no density exceeds 1 both are the same.
    """

    name: ClassVar[str] = "erdos_renyi"

    def allocate(self) -> Allocation:
        """The levels nearest to the wishes."""
        space, limits = self.problem.space, self.problem.limits
        sums = np.array([sum(site.shape) for site in space.sites], dtype=np.float64)
        sizes = np.array([site.size for site in space.sites], dtype=np.float64)
        kept = (1 - uniform_sparsity(space, limits)) * space.prunable
        densities = np.minimum(1.0, kept / sums.sum() * sums / sizes)
        return nearest(space, limits, shifted(space, limits, 1 - densities))
