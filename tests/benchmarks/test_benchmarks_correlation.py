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


def test_a_constant_score_has_no_tau():
    found = kendall(np.ones(5), np.arange(5.0), np.random.default_rng(0))
    assert np.isnan([found.mean, found.low, found.high]).all()
