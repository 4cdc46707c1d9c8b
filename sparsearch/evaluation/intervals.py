"""Bootstrap confidence intervals over sequences, and what a paired difference allows one to say.

All intervals are percentile intervals of the nonparametric bootstrap (Efron & Tibshirani, An Introduction to
the Bootstrap, 1993, chapter 13): sequences are drawn with replacement, tokens of a sequence stay together.
They hold to within a percent or two from about 50 sequences on and are somewhat too narrow below that.
Cost: `resamples * n` additions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsearch.errors import ConfigError, ResourceError

FloatArray = NDArray[np.float64]

BETTER = "better"
WORSE = "worse"
NO_DIFFERENCE = "no significant difference"

DRAWN_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its confidence interval, all in the unit of the values."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: ArrayLike, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000) -> Interval:
    """The mean of `values` `[n]`, one a sequence, with its `level` interval.

    Raises:
        ConfigError: fewer than two values, which say nothing about their spread.
        ResourceError: a value is NaN or infinite.
    """
    checked = _checked(values)
    return _interval(float(checked.mean()), _resampled_means(checked, rng, resamples), level)


def paired_difference(
    a: ArrayLike, b: ArrayLike, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> Interval:
    """The mean of `a - b`, both `[n]` on the same sequences in the same order, with its interval.

    Far narrower than the intervals of `a` and `b` suggest, as most of their spread is the text's.

    Raises:
        ConfigError: fewer than two pairs, or `a` and `b` differ in length.
        ResourceError: a value is NaN or infinite.
    """
    first, second = _checked(a), _checked(b)
    if first.shape != second.shape:
        raise ConfigError(
            f"a paired difference needs the same sequences on both sides, found {first.size} and "
            f"{second.size}; evaluate both on one panel"
        )
    return bootstrap_mean(first - second, rng, level, resamples)


def bootstrap_perplexity(
    cross_entropies: ArrayLike, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> Interval:
    """Perplexity of sequences of equal length from their mean cross-entropies `[n]` in nats a token.

    The exponential of the bootstrapped mean; infinite where that exceeds the range of a float.

    Raises:
        ConfigError: fewer than two values.
        ResourceError: a value is NaN or infinite.
    """
    checked = _checked(cross_entropies)
    with np.errstate(over="ignore"):
        perplexities = np.exp(_resampled_means(checked, rng, resamples))
        return _interval(float(np.exp(checked.mean())), perplexities, level)


def verdict(difference: Interval) -> str:
    """What the interval of `a - b` says about `a` when smaller is better: `better`, `worse`, or neither."""
    if difference.high < 0:
        return BETTER
    if difference.low > 0:
        return WORSE
    return NO_DIFFERENCE


def _checked(values: ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size < 2:
        raise ConfigError(f"a confidence interval needs at least 2 sequences, found {array.size}; enlarge the panel")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ResourceError(
            f"the value of sequence {bad[0]} is {array[bad[0]]} ({bad.size} of {array.size} are not finite); "
            "check the model's weights and compute in a wider dtype"
        )
    return array


def _resampled_means(values: FloatArray, rng: np.random.Generator, resamples: int) -> FloatArray:
    """Means `[resamples]` of draws with replacement; chunks keep long panels from filling the memory."""
    chunk = max(1, DRAWN_AT_ONCE // values.size)
    sizes = [min(chunk, resamples - start) for start in range(0, resamples, chunk)]
    return np.concatenate(
        [values[rng.integers(0, values.size, size=(size, values.size))].mean(axis=1) for size in sizes]
    )


def _interval(mean: float, resampled: FloatArray, level: float) -> Interval:
    # method="lower"/"higher" also keeps infinities from becoming NaN by interpolation.
    low = float(np.quantile(resampled, (1 - level) / 2, method="lower"))
    high = float(np.quantile(resampled, (1 + level) / 2, method="higher"))
    return Interval(mean, low, high)
