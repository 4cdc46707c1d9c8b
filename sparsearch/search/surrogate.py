"""The additive quadratic model that sensitivities from several allocations make together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sparsearch.space.allocation import Allocation
from sparsearch.space.sensitivities import Sensitivities, TableArray
from sparsearch.space.space import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Sample:
    """Sensitivities taken at one allocation, and how much they still count.

    Attributes:
        gradient: `[n, sites, levels]`.
        features: `[n, sites, levels]`, one draw a sequence.
        weight: in sequences; fades as the search moves on.
    """

    levels: IntArray
    gradient: TableArray
    features: TableArray
    weight: float


class Surrogate:
    """Predicts what a move of each site would change, from all samples so far; they fade as sites move.

    At allocation z a move of site u to level l is predicted to change the objective by

        g[u, l] + 0.5 * mean_s V[s, u, l]^2,

    interactions left out: on average they cancel, and estimated from few sequences they mislead the knapsack
    more than they help (measured: with 16 to 64 sequences minimising the joint form g z + 0.5 mean (V z)^2 gave
    no better allocations than this one). A sample taken at another allocation is moved to z: both tables are
    linear in the weights, so moves are measured from z by subtracting, and the gradient follows the site's own
    curvature along its own move, `mean_s V[s, u, z_u] V[s, u, l]`.

    Args:
        fading: factor on a sample's weight by the time that every site has moved; a move of a share s of them
            costs the power s of it.
    """

    def __init__(self, fading: float) -> None:
        self._fading = fading
        self._samples: list[Sample] = []

    def copy(self) -> Surrogate:
        """One that knows the same; what it takes in from now on is not known here."""
        other = Surrogate(self._fading)
        other._samples = list(self._samples)
        return other

    def add(self, allocation: Allocation, found: Sensitivities) -> None:
        """Takes in what was measured at `allocation`, one draw a sequence."""
        assert found.gradient is not None and found.features is not None
        here = allocation.array
        if self._samples:
            factor = self._fading ** float((self._samples[-1].levels != here).mean())
            faded = (replace(sample, weight=sample.weight * factor) for sample in self._samples)
            self._samples = [sample for sample in faded if sample.weight >= 1]
        self._samples.append(Sample(here, found.gradient, found.features, float(len(found.gradient))))

    def changes(self, allocation: Allocation, rng: np.random.Generator | None = None) -> Prediction:
        """Predicted changes of moves from `allocation`, with their standard errors.

        Args:
            rng: with it, one draw from the Bayesian bootstrap over sequences (Rubin, 1981): the sequences get
                exponential weights, so that predictions that rest on few of them vary.
        """
        tables, weights = [], []
        for sample in self._samples:
            count = len(sample.gradient)
            drawn = np.ones(count) if rng is None else rng.exponential(size=count)
            weights.append(drawn * sample.weight / count)
            tables.append(_moved(sample, allocation.array))
        return weighted_mean(np.concatenate(tables), np.concatenate(weights))


@dataclass(frozen=True, eq=False)
class Prediction:
    """What moves would change: mean and its standard error, each `[sites, levels]`."""

    mean: FloatArray
    error: FloatArray

    def cautious(self, errors: float) -> FloatArray:
        """Upper confidence limits: the mean and so many standard errors, 0 where nothing moves."""
        return self.mean + errors * self.error


def weighted_mean(rows: FloatArray, weights: FloatArray) -> Prediction:
    """Mean of `rows` `[n, ...]` under `weights` `[n]`, and its standard error.

    With w the weights scaled to sum 1, `error^2 = sum_i w_i^2 (x_i - mean)^2 * n / (n - 1)`, as for independent
    rows; 0 for a single row.
    """
    share = weights / weights.sum()
    mean = np.tensordot(share, rows, axes=1)
    spread = np.tensordot(share**2, (rows - mean) ** 2, axes=1)
    return Prediction(mean, np.sqrt(spread * len(rows) / max(len(rows) - 1, 1)))


def _moved(sample: Sample, levels: IntArray) -> FloatArray:
    """The predictions of each sequence of `sample`, `[n, sites, levels]`, for moves from `levels`."""
    rows = np.arange(len(levels))
    own = sample.features[:, rows, levels][:, :, None].astype(np.float64)
    features = sample.features - own
    gradient = sample.gradient - sample.gradient[:, rows, levels][:, :, None] + own * features
    return gradient + 0.5 * features**2


def fisher_costs(found: Sensitivities) -> FloatArray:
    """`0.5 * mean_s V[s, u, l]^2`: what each level alone costs, to second order, `[sites, levels]`."""
    assert found.features is not None
    return 0.5 * np.square(found.features, dtype=np.float64).mean(axis=0)


def within(space_levels: int, levels: IntArray, radius: int, values: FloatArray) -> FloatArray:
    """`values` `[sites, levels]` with all levels further than `radius` from `levels` made too dear to take."""
    far = np.abs(np.arange(space_levels)[None] - levels[:, None]) > radius
    penalty = 1e3 * (np.abs(values).max() + 1e-12)
    return np.where(far, penalty, values)
