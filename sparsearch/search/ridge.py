"""Bayesian ridge regression in its dual form, with one prior variance for each group of features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from sparsearch.space.space import FloatArray

STEPS = (8.0, 2.0)
"""Factors by which a variance is tried larger and smaller, one after the other."""

SWEEPS = 20
"""Rounds over all variances at most, with each factor."""

RANGE = 1e6
"""Largest ratio of a variance to that of the noise, and of the noise to it."""

JITTER = 1e-9
"""Share of the noise below which its variance is not seen, so that a kernel of low rank can be inverted."""


def combined(kernels: Sequence[FloatArray], scales: FloatArray) -> FloatArray:
    """Covariance `[n, n]` of the targets: the kernels under `scales` `[G]`, and the noise with the last of them.

    Args:
        kernels: `G - 1` of them, each `[n, n]`.
        scales: prior variances; of the noise last.
    """
    covariance = np.tensordot(scales[:-1], np.asarray(kernels), axes=1)
    covariance[np.diag_indices_from(covariance)] += scales[-1] + JITTER * scales.sum()
    return covariance


def leave_one_out(covariance: FloatArray, targets: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and variance `[n]` of each target as predicted from all others, from one inversion.

    With K the covariance, noise included: `mean_i = y_i - [K^-1 y]_i / [K^-1]_ii` and
    `variance_i = 1 / [K^-1]_ii` (Sundararajan & Keerthi, "Predictive Approaches for Choosing Hyperparameters in
    Gaussian Processes", 2001).
    """
    inverse = cho_solve(cho_factor(covariance, lower=True), np.eye(len(targets)))
    variances = 1 / np.diag(inverse)
    return targets - inverse @ targets * variances, variances


def fitted_scales(kernels: Sequence[FloatArray], targets: FloatArray, start: FloatArray) -> FloatArray:
    """Prior variances `[G]`, of the noise last, under which left-out targets are the most probable.

    Maximises the sum of logarithms of the predictive densities of `leave_one_out`, by coordinates: each variance
    in turn is tried `STEPS` times larger and smaller until none helps. A common factor c of all changes no mean,
    and the best is known: the mean of `(y - mean)^2 / variance`. So the noise is held at 1 and c found last.
    A few dozen inversions of `[n, n]`: 1 s for 400 targets, less from a good start.

    Args:
        kernels: `G - 1` of them, each `[n, n]`.
        targets: `[n]`.
        start: `[G]`, above 0.
    """
    ratios = np.log(start[:-1] / start[-1])
    best, factor = _score(kernels, targets, ratios)
    for step in np.log(STEPS):
        for _ in range(SWEEPS):
            before = best
            for index in range(len(ratios)):
                for sign in (1.0, -1.0):
                    trial = ratios.copy()
                    trial[index] = np.clip(trial[index] + sign * step, -np.log(RANGE), np.log(RANGE))
                    score, its_factor = _score(kernels, targets, trial)
                    if score > best:
                        best, factor, ratios = score, its_factor, trial
                        break
            if best == before:
                break
    return factor * np.exp(np.append(ratios, 0.0))


def _score(kernels: Sequence[FloatArray], targets: FloatArray, ratios: FloatArray) -> tuple[float, float]:
    """The log predictive density of left-out targets, a constant aside, and the common factor that it takes."""
    means, variances = leave_one_out(combined(kernels, np.exp(np.append(ratios, 0.0))), targets)
    factor = float(np.mean((targets - means) ** 2 / variances)) + 1e-300
    return -0.5 * float(len(targets) * np.log(factor) + np.log(variances).sum()), factor
