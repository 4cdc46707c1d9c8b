"""One magnitude threshold for the whole model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sparsearch.search.allocators.statistic import StatisticAllocator
from sparsearch.search.base import Options
from sparsearch.search.checks import number
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import cheapest


@dataclass(frozen=True, slots=True)
class GlobalMagnitudeOptions(Options):
    """Options of `global_magnitude`.

    Attributes:
        floor: share of each site's weights that stay, as far as the budget allows.
    """

    floor: float = 0.05

    def __post_init__(self) -> None:
        number("floor", self.floor, 0, 1)


class GlobalMagnitude(StatisticAllocator):
    """Removes the smallest weights of the whole model, but leaves every site a floor. Needs the weights alone.

    Global magnitude pruning (Han et al., 2015; Gale et al., 2019): a weight goes if |w| < t, t the same for all
    sites and such that the budget is met. Solved exactly on the levels: the least sum of w^2 over all removed
    weights, which for a budget of weights is what one threshold gives. The floor keeps a site with small weights
    from vanishing (layer collapse). Cost: one sort of every weight.
    """

    name: ClassVar[str] = "global_magnitude"
    options_type: ClassVar[type[Options]] = GlobalMagnitudeOptions
    options: GlobalMagnitudeOptions
    statistic: ClassVar[str] = "magnitude"

    def allocate(self) -> Allocation:
        """The optimum, levels beneath the floor only where nothing else meets the budget."""
        space = self.problem.space
        beneath = np.nan_to_num(space.sparsities) > 1 - self.options.floor + 1e-12
        return cheapest(space, self.problem.limits, self.measured + beneath * self.measured.max() * len(space))
