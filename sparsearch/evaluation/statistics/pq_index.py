"""How many weights the PQ index says must stay."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from sparsearch.evaluation.statistics.base import Measurement
from sparsearch.space.space import FloatArray


def pq_retained(measurement: Measurement) -> FloatArray:
    """`[sites]`, the share m / d of weights that stay at least, by the PQ index. Parameters `p` < `q`, `eta`."""
    names = ("p", "q", "eta")
    p, q, eta = (measurement.parameters[name] for name in names)
    count = len(measurement.space)
    return np.array([retained_share(measurement.weight(site), p, q, eta) for site in range(count)])


def retained_share(weight: Tensor, p: float, q: float, eta: float) -> float:
    """`(1 + eta)^(-q / (q - p)) * (1 - I)^(q p / (q - p))`, I = `1 - d^(1/q - 1/p) |w|_p / |w|_q` the PQ index.

    Diao et al., "Pruning Deep Neural Networks from a Sparsity Perspective" (ICLR 2023), theorem 2: with fewer
    weights the others hold less than `1 / (1 + eta)` of |w|_p^p. 1 for weights of one size, 1 / d for a single
    one; a site that is all zeros keeps none.
    """
    sizes = weight.double().abs()
    largest = float(sizes.max())
    if largest == 0:
        return 0.0
    sizes = sizes / largest
    norm_p, norm_q = (float(sizes.pow(power).mean()) ** (1 / power) for power in (p, q))
    return (1 + eta) ** (-q / (q - p)) * (norm_p / norm_q) ** (q * p / (q - p))
