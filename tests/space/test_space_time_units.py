"""Latency is bounded in units of time."""

import re

import numpy as np
import pytest

from sparsearch.errors import ConfigError, InfeasibleBudgetError
from sparsearch.space import Budget, SearchSpace, show_amount
from sparsearch.space.budget import parse_amount
from sparsearch.testing import quadratic_problem


@pytest.mark.parametrize(("text", "seconds"), [("12ms", 0.012), ("800us", 8e-4), ("2s", 2.0), (0.5, 0.5)])
def test_times_are_in_seconds(text, seconds):
    assert parse_amount("latency", text).value == pytest.approx(seconds)


@pytest.mark.parametrize(("resource", "text"), [("latency", "4GiB"), ("bytes", "12ms")])
def test_units_of_another_resource_are_refused(resource, text):
    with pytest.raises(ConfigError, match=f"budget.{resource}: unit"):
        parse_amount(resource, text)


def timed_space(outside=3e-3):
    """Latency falls by half a millisecond a level at each of 14 sites."""
    plain = quadratic_problem(blocks=2).problem.space
    costs = np.where(plain.valid, 8e-3 - 5e-4 * np.arange(plain.valid.shape[1]), np.inf)
    return SearchSpace(
        plain.sites, plain.levels, {**plain.costs, "latency": costs}, {**plain.constants, "latency": outside}
    )


def test_a_bound_below_the_constant_part_is_refused_with_it_and_the_range_in_milliseconds():
    space = timed_space()
    with pytest.raises(InfeasibleBudgetError) as error:
        Budget(latency="2ms").limits(space)
    least, dense = space.least("latency"), space.cost("latency", space.dense())
    found = re.fullmatch(
        r"budget\.latency: 2ms cannot be met; reachable with these levels: (\S+)ms to (\S+)ms \((\S+)x to 1x\), "
        r"3ms of it outside the sites",
        str(error.value),
    )
    assert (float(found[1]), float(found[2])) == (pytest.approx(1e3 * least), pytest.approx(1e3 * dense))
    Budget(latency=f"{found[1]}ms").limits(space)
    Budget(latency=f"{found[3]}x").limits(space)


@pytest.mark.parametrize("text", ["12ms", "0.0123ms", "1500ms", "0.6x"])
def test_a_latency_is_described_as_it_would_stand_in_a_job_file(text):
    assert Budget(latency=text).describe() == {"latency": text}


def test_latency_of_a_space_that_knows_none_says_what_to_do():
    with pytest.raises(ConfigError, match="add hardware: FILE, which sparsearch measure --out FILE writes"):
        Budget(latency="2ms").limits(quadratic_problem().problem.space)


def test_the_least_may_lie_at_a_denser_level():
    space = timed_space()
    upside_down = np.where(space.valid, 1e-3 * (1 + np.arange(space.valid.shape[1])), np.inf)
    slow = SearchSpace(space.sites, space.levels, {**space.costs, "latency": upside_down}, space.constants)
    assert slow.least("latency") == pytest.approx(len(space) * 1e-3 + 3e-3) == slow.cost("latency", slow.dense())


def test_amounts_are_shown_for_people():
    assert show_amount("latency", 0.01234567) == "12.35 ms"
    assert (show_amount("bytes", 1234567), show_amount("params", 12.0)) == ("1,234,567", "12")
