"""Kendall's rank correlation with a bootstrap interval over allocations."""

from __future__ import annotations

import numpy as np

from sparsearch.evaluation.intervals import Interval
from sparsearch.space.space import FloatArray


def kendall(first: FloatArray, second: FloatArray, rng: np.random.Generator, draws: int = 1000) -> Interval:
    """Kendall's tau-b of two scores `[n]` of the same allocations, with its 95 % percentile interval.

    With S the signs of all pairwise differences and c how often each allocation was drawn, tau-b of a resample is
    `c.(S1 * S2).c / sqrt(c.S1^2.c  c.S2^2.c)`; `nan` where either score is constant. Cost: `draws * n^2`.
    """
    signs = [np.sign(scores[:, None] - scores[None]) for scores in (first, second)]
    products = [signs[a] * signs[b] for a, b in ((0, 1), (0, 0), (1, 1))]
    size = len(first)
    counts = np.vstack([np.ones(size), rng.multinomial(size, np.full(size, 1 / size), size=draws)])
    joint, *own = (((counts @ product) * counts).sum(axis=1) for product in products)
    with np.errstate(invalid="ignore", divide="ignore"):
        taus = joint / np.sqrt(own[0] * own[1])
    low, high = np.nanquantile(taus[1:], (0.025, 0.975)) if np.isfinite(taus[1:]).any() else (np.nan, np.nan)
    return Interval(float(taus[0]), float(low), float(high))
