"""Two sparsities: one for the more important blocks, one for the others."""

from __future__ import annotations

import numpy as np

from sparsearch.search.checks import number
from sparsearch.search.wishes import shifted
from sparsearch.space.budget import Limits
from sparsearch.space.repair import uniform_sparsity
from sparsearch.space.space import FloatArray, SearchSpace


def check_tiers(share: float, gap: float) -> None:
    """Checks the options of a ranking: numbers from 0 to 1.

    Raises:
        ConfigError: something else.
    """
    number("share", share, 0, 1)
    number("gap", gap, 0, 1)


def tiered(space: SearchSpace, limits: Limits, importance: FloatArray, share: float, gap: float) -> FloatArray:
    """Wished sparsities `[sites]`: `gap` lower for the `share` of sites that are most important.

    Sites of equal importance are in one tier, the upper one.
    """
    level = uniform_sparsity(space, limits)
    wished = np.where(importance >= np.quantile(importance, 1 - share), level - gap, level)
    return shifted(space, limits, wished)
