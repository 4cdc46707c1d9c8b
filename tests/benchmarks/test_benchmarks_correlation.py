"""Kendall's tau of the benchmarks against scipy's."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from correlation import kendall


@pytest.mark.parametrize("levels", [3, 1000])
def test_tau_and_its_interval_are_those_of_scipy_with_and_without_ties(levels):
    rng = np.random.default_rng(0)
    first, noise = rng.integers(levels, size=(2, 30)).astype(float)
    second = np.round(first + noise)
    found = kendall(first, second, np.random.default_rng(1), draws=50)
    assert found.mean == pytest.approx(kendalltau(first, second).statistic)
    drawn = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), size=50)
    rows = [np.repeat(np.arange(30), counts) for counts in drawn]
    taus = [kendalltau(first[row], second[row]).statistic for row in rows]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(taus, (0.025, 0.975))))


def test_only_the_pairs_that_count_are_compared():
    strata = np.array([0, 0, 0, 1, 1, 1])
    first = np.array([1.0, 2.0, 3.0, 11.0, 12.0, 13.0])
    second = np.array([3.0, 2.0, 1.0, 13.0, 12.0, 11.0])
    within = kendall(first, second, np.random.default_rng(0), strata[:, None] == strata[None])
    assert within.mean == -1 and kendall(first, second, np.random.default_rng(0)).mean > 0
