"""FLAP: fluctuation of the input channels."""

from __future__ import annotations

from typing import ClassVar

from sparsearch.search.allocators.statistic import StatisticAllocator, TextOptions
from sparsearch.search.base import Options
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import cheapest


class FLAP(StatisticAllocator):
    """One threshold on the standardised fluctuation of input channels. One forward of a few sequences.

    An et al., "Fluctuation-based Adaptive Structured Pruning" (AAAI 2024), adaptive over layers and modules: the
    metric of an input channel is `Var(x_j) * |W_:j|^2`, standardised within its site; the channels below one
    threshold go, which with the budget says how much each site loses. Solved exactly on the levels, as the
    least sum of removed scores, a channel's counted once a weight. Deviations: every site takes part, not only
    those behind heads and FFN channels; nothing is squared for attention; only the share of channels is used.
    """

    name: ClassVar[str] = "flap"
    options_type: ClassVar[type[Options]] = TextOptions
    options: TextOptions
    statistic: ClassVar[str] = "fluctuation"

    def allocate(self) -> Allocation:
        """The optimum."""
        return cheapest(self.problem.space, self.problem.limits, self.measured)
