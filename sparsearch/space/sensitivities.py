"""What a few backward passes say about every level of every site at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TableArray = NDArray[np.float32] | NDArray[np.float64]
"""Float64 where the model computes in it."""


@dataclass(frozen=True, eq=False)
class Sensitivities:
    """First- and second-order tables at one allocation; moves are `D = W_u(level) - W_u(now)`.

    Attributes:
        gradient: `[sequences, sites, max levels]`, `<d objective / d W_u, D>` of each sequence; None if not asked.
        features: `[sequences * draws, sites, max levels]`: V with the Gauss-Newton form of a joint move
            `0.5 * mean_r (sum_u V[r, u, level_u])^2` for the mean objective; the draws of a sequence are
            neighbours. None if not asked.
    """

    gradient: TableArray | None
    features: TableArray | None
