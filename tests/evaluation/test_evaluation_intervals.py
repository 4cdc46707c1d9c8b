"""Bootstrap intervals against normal theory, exhaustive enumeration and their coverage."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.evaluation.intervals import (
    Interval,
    bootstrap_mean,
    bootstrap_perplexity,
    paired_difference,
    verdict,
)


def test_large_samples_agree_with_normal_theory():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=4000)
    interval = bootstrap_mean(values, np.random.default_rng(1), resamples=8000)
    half_width = 1.96 * values.std() / math.sqrt(values.size)
    assert interval.mean == pytest.approx(values.mean(), abs=1e-12)
    assert interval.low == pytest.approx(values.mean() - half_width, abs=0.05 * half_width)
    assert interval.high == pytest.approx(values.mean() + half_width, abs=0.05 * half_width)


def test_small_samples_agree_with_all_resamples():
    values = np.array([0.1, 0.2, 0.4, 0.8, 1.6])
    means = np.array([sum(draw) / 5 for draw in itertools.product(values, repeat=5)])
    interval = bootstrap_mean(values, np.random.default_rng(0), level=0.8, resamples=40000)
    for end, quantile in ((interval.low, 0.1), (interval.high, 0.9)):
        below, up_to = np.mean(means < end - 1e-9), np.mean(means < end + 1e-9)
        assert below - 0.01 < quantile < up_to + 0.01


def test_chunks_do_not_repeat_draws():
    values = np.random.default_rng(0).normal(size=300_000)
    interval = bootstrap_mean(values, np.random.default_rng(1), resamples=40)
    assert interval.low < interval.mean < interval.high


def test_coverage_is_near_the_level():
    rng = np.random.default_rng(7)
    samples = rng.exponential(1.0, size=(400, 60))
    intervals = [bootstrap_mean(sample, rng, level=0.9, resamples=400) for sample in samples]
    covered = np.mean([interval.low <= 1.0 <= interval.high for interval in intervals])
    assert 0.84 < covered < 0.95


def test_no_difference_is_rarely_called_significant():
    rng = np.random.default_rng(3)
    calls = []
    for _ in range(300):
        text = rng.normal(size=64)
        a, b = text + rng.normal(0, 0.1, 64), text + rng.normal(0, 0.1, 64)
        calls.append(verdict(paired_difference(a, b, rng, resamples=400)))
    assert calls.count("no significant difference") > 0.9 * len(calls)


def test_pairing_removes_the_spread_of_the_text():
    rng = np.random.default_rng(0)
    text = rng.normal(5, 2, size=64)
    a, b = text - 0.1 + rng.normal(0, 0.05, 64), text
    difference = paired_difference(a, b, np.random.default_rng(1))
    alone = bootstrap_mean(a, np.random.default_rng(1))
    assert verdict(difference) == "better"
    assert verdict(paired_difference(b, a, np.random.default_rng(1))) == "worse"
    assert difference.high - difference.low < 0.2 * (alone.high - alone.low)


def test_perplexity_is_the_exponential_of_the_mean_interval():
    values = np.random.default_rng(0).normal(3, 0.3, size=50)
    mean = bootstrap_mean(values, np.random.default_rng(5))
    perplexity = bootstrap_perplexity(values, np.random.default_rng(5))
    assert perplexity == Interval(*(pytest.approx(math.exp(x)) for x in (mean.mean, mean.low, mean.high)))


def test_perplexity_beyond_floats_is_infinite_not_nan():
    perplexity = bootstrap_perplexity([700.0, 720.0, 705.0], np.random.default_rng(0))
    assert perplexity.high == math.inf
    assert perplexity.low > 0


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float64, st.integers(2, 40), elements=st.floats(-1e6, 1e6)),
    st.integers(0, 2**32 - 1),
    st.floats(0.1, 0.99),
)
def test_intervals_stay_within_the_values_and_repeat(values, seed, level):
    interval = bootstrap_mean(values, np.random.default_rng(seed), level, resamples=50)
    slack = 1e-9 * max(1.0, np.abs(values).max())
    assert values.min() - slack <= interval.low <= interval.high <= values.max() + slack
    assert interval == bootstrap_mean(values, np.random.default_rng(seed), level, resamples=50)


def test_zero_belongs_to_no_significant_difference():
    assert verdict(Interval(0.0, 0.0, 0.0)) == "no significant difference"
    assert verdict(Interval(-0.1, -0.2, 0.0)) == "no significant difference"


def test_one_sequence_is_refused():
    with pytest.raises(ConfigError, match="at least 2 sequences, found 1"):
        bootstrap_mean([1.0], np.random.default_rng(0))


def test_unequal_panels_are_refused():
    with pytest.raises(ConfigError, match="found 3 and 2"):
        paired_difference([1.0, 2.0, 3.0], [1.0, 2.0], np.random.default_rng(0))


def test_nan_is_refused_by_position():
    with pytest.raises(ResourceError, match="sequence 1 is nan"):
        bootstrap_mean([1.0, math.nan, 2.0], np.random.default_rng(0))
