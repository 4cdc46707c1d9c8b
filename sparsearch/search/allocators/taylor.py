"""First-order Taylor scores."""

from __future__ import annotations

from typing import ClassVar

from sparsearch.search.allocators.statistic import StatisticAllocator, TextOptions
from sparsearch.search.base import Options
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import cheapest


class Taylor(StatisticAllocator):
    """One threshold on |gradient * weight|. One forward and backward of a few sequences.

    Molchanov et al., "Importance Estimation for Neural Network Pruning" (CVPR 2019), as LLM-Pruner (2023) uses it:
    the score of a weight is `|g * w|`, g the gradient of the mean cross-entropy of the text; the lowest scores of
    all sites go. Solved exactly on the levels, as the least sum of removed scores. Only the allocation is taken
    from the scores; which weights go is the pruner's. `fisher` is its second-order sibling.
    """

    name: ClassVar[str] = "taylor"
    options_type: ClassVar[type[Options]] = TextOptions
    options: TextOptions
    statistic: ClassVar[str] = "taylor"

    def allocate(self) -> Allocation:
        """The optimum."""
        return cheapest(self.problem.space, self.problem.limits, self.measured)
