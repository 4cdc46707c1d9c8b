"""Layer-adaptive magnitude."""

from __future__ import annotations

from typing import ClassVar

from sparsearch.search.allocators.statistic import StatisticAllocator
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import cheapest


class LAMP(StatisticAllocator):
    """One threshold on magnitudes that are relative to what else is left of the layer. Needs the weights alone.

    Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning" (ICLR 2021): the score of a weight is
    `w_u^2 / sum of w_v^2 over those of its site that are not smaller`; the lowest scores of all sites go. Solved
    exactly on the levels, as the least sum of removed scores. Without options; cost: two sorts of every weight.
    """

    name: ClassVar[str] = "lamp"
    statistic: ClassVar[str] = "lamp"

    def allocate(self) -> Allocation:
        """The optimum."""
        return cheapest(self.problem.space, self.problem.limits, self.measured)
