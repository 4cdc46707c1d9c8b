import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsearch.errors import ConfigError, InfeasibleBudgetError
from sparsearch.space import Budget, SearchSpace
from sparsearch.space.budget import parse_amount, parse_sparsity
from sparsearch.space.repair import uniform
from sparsearch.testing import quadratic_problem


@pytest.fixture
def space():
    return quadratic_problem().problem.space


@pytest.mark.parametrize(
    ("value", "amount", "relative"),
    [
        (3.1e9, 3.1e9, False),
        ("3.1e9", 3.1e9, False),
        ("3.1G", 3.1e9, False),
        ("4GiB", 4 * 2**30, False),
        ("4 gib", 4 * 2**30, False),
        ("250MB", 2.5e8, False),
        (7, 7, False),
        ("0.7x", 0.7, True),
        ("70%", 0.7, True),
    ],
)
def test_amounts_are_read(value, amount, relative):
    parsed = parse_amount("bytes", value)
    assert (parsed.value, parsed.relative) == (pytest.approx(amount), relative)
    assert parse_amount("bytes", str(parsed)) == parsed


@pytest.mark.parametrize("value", ["much", "", "4 4GiB", "0x", "-1", 0, float("nan"), "1e400", "4Gb2", True])
def test_bad_amounts_are_named(value):
    with pytest.raises(ConfigError, match=rf"^budget\.bytes: .*{re.escape(str(value))}.*allowed: a positive number"):
        parse_amount("bytes", value)


def test_unknown_units_are_named():
    with pytest.raises(ConfigError, match=r"^budget\.bytes: unit 'furlongs' is unknown; allowed: "):
        parse_amount("bytes", "4furlongs")


@pytest.mark.parametrize(("value", "sparsity"), [(0.6, 0.6), ("60%", 0.6), (" 0.6 ", 0.6), (0, 0.0)])
def test_sparsities_are_read(value, sparsity):
    assert parse_sparsity(value) == pytest.approx(sparsity)


@pytest.mark.parametrize("value", [1, 60, -0.1, "sixty", "nan", True, None])
def test_bad_sparsities_are_named(value):
    with pytest.raises(ConfigError, match=r"^budget\.sparsity: .* is not a sparsity; allowed: 0 up to"):
        parse_sparsity(value)


def test_an_empty_budget_is_refused():
    with pytest.raises(ConfigError, match="budget is empty"):
        Budget()


def test_unknown_resources_get_a_suggestion(space):
    with pytest.raises(ConfigError, match=r"budget\.byte: no such resource; .*did you mean 'bytes'"):
        Budget(byte="0.5x").limits(space)


def test_describe_is_what_a_job_file_says(space):
    budget = Budget(sparsity="60%", params="0.7x", bytes="1KiB")
    assert budget.describe() == {"sparsity": "0.6", "bytes": "1024", "params": "0.7x"}
    again = Budget(**budget.describe())
    assert again.describe() == budget.describe()
    assert repr(budget) == "Budget(sparsity=0.6, bytes=1024, params=0.7x)"


def test_relative_bounds_count_the_whole_model_and_sparsity_the_sites(space):
    dense = space.cost("params", space.dense())
    limits = Budget(params="0.7x").limits(space)
    assert limits.bounds[0] == pytest.approx(0.7 * dense - space.constants["params"])
    assert Budget(sparsity=0.3).limits(space).bounds[0] == pytest.approx(0.7 * space.prunable)


def test_sparsity_and_params_bound_the_same_resource_by_the_tighter_one(space):
    loose, both = Budget(sparsity=0.5).limits(space), Budget(sparsity=0.5, params="0.99x").limits(space)
    assert both.resources == ("params",)
    assert both.bounds == loose.bounds


def test_limits_know_what_an_allocation_spends(space):
    limits = Budget(params="0.7x", bytes="0.8x").limits(space)
    allocation = uniform(space, limits)
    assert limits.met(allocation)
    assert not limits.met(space.dense())
    spent = dict(zip(limits.resources, limits.spent(allocation.array), strict=True))
    for resource in limits.resources:
        assert spent[resource] + space.constants[resource] == space.cost(resource, allocation)


def test_an_infeasible_sparsity_names_the_reachable_range(space):
    with pytest.raises(InfeasibleBudgetError) as error:
        Budget(sparsity=0.95).limits(space)
    message = str(error.value)
    assert re.fullmatch(r"budget\.sparsity: 0\.95 cannot be met; reachable with these levels: 0 to [0-9.]+", message)
    most = float(message.rsplit(" ", 1)[1])
    assert most == pytest.approx(space.sparsity(space.sparsest()), abs=1e-4)
    Budget(sparsity=most).limits(space)


@pytest.mark.parametrize("resource", ["params", "bytes", "flops"])
def test_an_infeasible_resource_names_the_reachable_range(space, resource):
    with pytest.raises(InfeasibleBudgetError) as error:
        Budget(**{resource: "0.01x"}).limits(space)
    message = str(error.value)
    found = re.fullmatch(
        rf"budget\.{resource}: 0\.01x cannot be met; reachable with these levels: "
        r"(\S+) to (\S+) \((\S+)x to 1x\), (\S+) of it outside the sites",
        message,
    )
    assert float(found[1]) == pytest.approx(space.cost(resource, space.sparsest()))
    assert float(found[2]) == pytest.approx(space.cost(resource, space.dense()))
    assert float(found[4]) == space.constants[resource]
    Budget(**{resource: found[1]}).limits(space)
    Budget(**{resource: found[3] + "x"}).limits(space)


def test_the_bound_that_breaks_is_the_one_named(space):
    with pytest.raises(InfeasibleBudgetError, match=r"^budget\.sparsity: 0\.99 cannot"):
        Budget(sparsity=0.99, params="0.9x").limits(space)
    with pytest.raises(InfeasibleBudgetError, match=r"^budget\.params: 0\.001x cannot"):
        Budget(sparsity=0.1, params="0.001x").limits(space)


def test_bounds_that_only_clash_together_are_refused(space):
    # A latency that sparser levels cost more of.
    latency = np.where(space.valid, np.arange(space.valid.shape[1]), np.inf)
    both = SearchSpace(
        space.sites, space.levels, {**space.costs, "latency": latency}, {**space.constants, "latency": 0.0}
    )
    Budget(sparsity=0.5, latency=8 * len(space)).limits(both)
    with pytest.raises(InfeasibleBudgetError, match=r"sparsity 0\.5, latency 5000ms can each be met but not together"):
        Budget(sparsity=0.5, latency=5).limits(both)


@given(st.integers(1, 99))
@settings(max_examples=40, deadline=None)
def test_a_sparsity_on_the_grid_is_met_by_exactly_that_level(percent):
    problem = quadratic_problem(Budget(sparsity=percent / 100), block={"a": (7, 100)}, levels=[percent / 100]).problem
    assert problem.limits.met(problem.space.sparsest())
    assert problem.limits.bounds[0] == pytest.approx((100 - percent) * 14)


def test_one_bound_at_its_minimum_is_feasible(space):
    sparsest = space.sparsest()
    bounds = {resource: space.cost(resource, sparsest) for resource in space.resources}
    limits = Budget(**bounds).limits(space)
    assert uniform(space, limits) == sparsest
