"""How heavy the tail of a weight's spectrum is."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sparsearch.evaluation.statistics.base import Measurement, per_site, sites_by_block
from sparsearch.space.space import FloatArray

LIGHTEST = 100.0
"""Exponent beyond which a spectrum has no tail to speak of; equal eigenvalues would give infinity."""


def tail_exponent(measurement: Measurement) -> FloatArray:
    """`[sites]`, the power-law exponent of the spectrum of W^T W, the mean of a block's sites for each of them.

    Parameter `tail`: share of the eigenvalues that the Hill estimator looks at. Cost: the eigenvalues of a
    square matrix of each site's shorter side, float64.
    """
    space = measurement.space
    means = {}
    for block, sites in sites_by_block(space).items():
        exponents = [
            hill_exponent(spectrum(measurement.weight(site)), measurement.parameters["tail"]) for site in sites
        ]
        means[block] = float(np.mean(exponents))
    return per_site(space, means)


def spectrum(weight: Tensor) -> Tensor:
    """Eigenvalues of W^T W `[min(out, in)]`, ascending, float64, those that are 0 by shape left out."""
    short = weight.double() if weight.shape[0] <= weight.shape[1] else weight.double().T
    return torch.linalg.eigvalsh(short @ short.T)


def hill_exponent(eigenvalues: Tensor, tail: float) -> float:
    """`1 + k / sum_{i <= k} ln(l_{n-i+1} / l_{n-k})` of ascending eigenvalues l, k = `tail` of all n of them.

    The maximum-likelihood exponent of a density ~ l^-exponent above l_{n-k} (Hill, 1975), at most `LIGHTEST`.
    """
    count = len(eigenvalues)
    used = min(max(1, int(tail * count)), count - 1)
    if used < 1:
        return LIGHTEST
    floor = eigenvalues[-1].clamp(min=1e-300) * 1e-15
    logs = eigenvalues.clamp(min=float(floor)).log()
    excess = float((logs[count - used :] - logs[count - used - 1]).sum())
    return min(1 + used / excess, LIGHTEST) if excess > 0 else LIGHTEST
