"""Least summed output error of the layers."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sparsearch.search.allocators import Allocator
from sparsearch.space import repair
from sparsearch.space.allocation import Allocation


class LayerError(Allocator):
    """Least sum of relative layer output errors, exactly. Needs the supernet's calibration alone.

    Error of a variant: `||D X||^2 / ||W X||^2`, D its change of the weight, X the calibration input. This is
    the dynamic-programming baseline of EvoPress (Sieberling et al., 2024), solved as a knapsack. It treats all
    sites as equally important for the model, which a search does not.
    """

    name: ClassVar[str] = "layer_error"
    needs_errors: ClassVar[bool] = True

    def allocate(self) -> Allocation:
        """The optimum of the additive model."""
        assert self.problem.errors is not None, "needs_errors was checked"
        return repair.cheapest(self.problem.space, self.problem.limits, np.nan_to_num(self.problem.errors))
