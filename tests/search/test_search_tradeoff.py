"""Searches for a front: what nsga2, nsga3, tpe and gp share, and what Optuna's samplers make of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from search_references import true_front, volume

from sparsearch.errors import ConfigError
from sparsearch.search import Evaluate, Sense, check_searcher, make_searcher
from sparsearch.search.bayesian import STARTS
from sparsearch.search.front import nondominated
from sparsearch.search.tradeoff import Descent, Tradeoff, lowest, resource_names, tightened
from sparsearch.space import Budget
from sparsearch.space.repair import cheapest, uniform
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import drive

BLOCK = {"attn.q_proj": (16, 16), "mlp.up_proj": (16, 48)}
SMALL = {"resources": "params", "basis": "curve", "coefficients": 1, "trials": 12, "sequences": 4, "batch": 1}

both = pytest.mark.parametrize("name", ["tpe", "gp"])


def tiny():
    """4 sites, 4 levels, 256 allocations, no noise between sequences."""
    return quadratic_problem(block=BLOCK, blocks=2, levels=(0.3, 0.6, 0.8), interaction=0.2)


def search(name, synthetic, seed=0, **options):
    searcher = make_searcher(name, SMALL | options, synthetic.problem, seed)
    return searcher, drive(searcher, synthetic)


@pytest.mark.parametrize(
    ("name", "share", "options"),
    [
        ("tpe", 0.95, {"trials": 80, "coefficients": 2, "batch": 1}),
        ("tpe", 0.97, {"trials": 80, "basis": "fisher"}),
        ("gp", 0.8, {"trials": 16}),
    ],
)
def test_the_front_has_most_of_the_true_one_s_volume(name, share, options):
    synthetic = tiny()
    truth = true_front(synthetic, "params")
    corner = truth.resources.max() * 1.01, truth.values.max() * 1.01
    searcher, run = search(name, synthetic, **options)
    assert volume(searcher.front, corner) >= share * volume(truth, corner)
    assert run.best == lowest(searcher.front)
    assert searcher.front.resources.min() == truth.resources.min()


@both
def test_the_front_is_sound_for_several_resources(name):
    synthetic = quadratic_problem(Budget(sparsity=0.5), blocks=1, noise=0.3)
    space, limits = synthetic.problem.space, synthetic.problem.limits
    searcher, run = search(name, synthetic, resources=["flops", "bytes"], polish=8, finals=6)
    front = searcher.front
    assert front.names == ("flops", "bytes") and len(front.allocations) > 1
    assert nondominated(np.column_stack([front.values, front.resources])).all()
    assert all(limits.met(allocation) for allocation in front.allocations)
    finals = run.requests[-1]
    assert set(front.allocations) <= set(finals.allocations) and len(finals.sequences) == 6
    for allocation, value, spent in zip(front.allocations, front.values, front.resources, strict=True):
        assert spent.tolist() == [space.cost("flops", allocation), space.cost("bytes", allocation)]
        assert value == pytest.approx(synthetic.values([allocation], finals.sequences).mean())
    assert sum(request.forwards for request in run.requests) <= searcher.evaluations
    assert run.progress[-1].done == run.progress[-1].total
    assert run.progress[-1].incumbent == run.best


@both
def test_a_resumed_search_ends_with_the_same_front(name):
    synthetic = quadratic_problem(blocks=1, noise=0.3)
    whole, run = search(name, synthetic, seed=4, polish=4)
    resumed = make_searcher(name, SMALL | {"polish": 4}, synthetic.problem, 4)
    for request, answer in zip(run.requests[:4], run.answers, strict=False):
        assert resumed.ask() == request
        resumed.tell(answer)
    rest = drive(resumed, synthetic)
    assert rest.requests == run.requests[4:]
    assert resumed.front.allocations == whole.front.allocations
    assert resumed.front.values.tolist() == whole.front.values.tolist()


@pytest.mark.parametrize("basis", ["curve", "fisher"])
def test_the_first_trials_go_straight_down_to_the_least_of_the_resources(basis):
    synthetic = quadratic_problem()
    space = synthetic.problem.space
    _, run = search("tpe", synthetic, basis=basis, trials=STARTS, batch=STARTS)
    first = next(request for request in run.requests if isinstance(request, Evaluate))
    spent = [space.cost("params", allocation) for allocation in first.allocations[1:]]
    assert spent == sorted(spent, reverse=True) and len(set(spent)) == len(spent)
    assert spent[-1] == space.cost("params", space.sparsest())
    assert first.allocations[0] == uniform(space, synthetic.problem.limits)
    assert isinstance(run.requests[0], Sense) == (basis == "fisher")


def test_the_polish_of_a_front_stays_within_what_its_points_cost():
    synthetic = quadratic_problem(blocks=2)
    plain, _ = search("tpe", synthetic, trials=24)
    polished, _ = search("tpe", synthetic, trials=24, polish=60, batch=4)
    corner = plain.front.resources.max() * 1.01, plain.front.values.max() * 1.01
    assert volume(polished.front, corner) > 1.02 * volume(plain.front, corner)


@both
def test_without_numbers_there_is_no_front(name):
    synthetic = quadratic_problem(blocks=1)
    searcher = make_searcher(name, SMALL, synthetic.problem, 0)
    while (request := searcher.ask()) is not None:
        searcher.tell(np.full((len(request.allocations), len(request.sequences)), np.nan))
    assert searcher.front is None
    assert searcher.best == uniform(synthetic.problem.space, synthetic.problem.limits)


def test_no_resources_no_front():
    searcher, _ = search("tpe", quadratic_problem(), resources=[])
    assert searcher.front is None


def test_every_step_of_a_descent_can_be_met_and_the_last_one_is_the_least():
    synthetic = quadratic_problem(Budget(sparsity=0.4, bytes="0.7x"), blocks=1)
    # Sparser levels that cost more of a second resource, as slow kernels do.
    slow = np.where(synthetic.problem.space.valid, synthetic.problem.space.costs["params"].max() / 2, np.inf)
    slow = slow - 0.4 * synthetic.problem.space.costs["params"]
    space = dataclasses.replace(synthetic.problem.space, costs=synthetic.problem.space.costs | {"flops": slow})
    problem = dataclasses.replace(synthetic.problem, space=space)
    descent = Descent(problem, ("params", "flops"))
    for shares in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.3, 0.8), (1.0, 1.0)):
        limits = descent.limits(np.array(shares))
        assert limits.met(cheapest(space, limits, -space.costs["params"]))
        assert (limits.bounds[: len(problem.limits.bounds)] <= problem.limits.bounds).all()
    loose = descent.limits(np.zeros(2))
    for name in ("params", "flops"):
        most = [cheapest(space, limits, -space.costs[name]) for limits in (loose, problem.limits)]
        assert space.cost(name, most[0]) == pytest.approx(space.cost(name, most[1]))


def test_bounds_are_added_to_those_of_the_budget_and_never_loosen_them():
    problem = quadratic_problem(Budget(sparsity=0.5, bytes="0.7x")).problem
    params, size = (problem.limits.bounds[problem.limits.resources.index(name)] for name in ("params", "bytes"))
    found = tightened(problem, ("bytes", "flops"), np.array([2 * size, 7.0]))
    bounds = dict(zip(found.resources, found.bounds.tolist(), strict=True))
    assert bounds == pytest.approx({"params": params, "bytes": size, "flops": 7.0})
    for name, table in zip(found.resources, found.costs, strict=True):
        assert np.array_equal(table, problem.space.costs[name])


def test_allocations_without_numbers_are_not_on_the_front():
    synthetic = tiny()
    tradeoff = Tradeoff(synthetic.problem, ("params",))
    space = synthetic.problem.space
    sparsest, level = space.sparsest(), uniform(space, synthetic.problem.limits)
    assert tradeoff.front({sparsest: np.inf, level: 1.0}).allocations == (level,)
    assert tradeoff.front({sparsest: np.nan}) is None and tradeoff.front({}) is None
    assert tradeoff.front({level: 1.0, sparsest: 2.0}).allocations == (sparsest, level)


@both
def test_a_resource_that_the_space_does_not_have_is_refused(name):
    with pytest.raises(ConfigError, match=r"searcher\.resources: 'parms' is no resource.*did you mean 'params'"):
        make_searcher(name, {"resources": ["bytes", "parms"]}, tiny().problem, 0)


@both
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resources": ["params", "params"]}, r"searcher\.resources: .* is not allowed; give the names .* each once"),
        ({"resources": 3}, r"searcher\.resources: 3 is not allowed"),
        ({"resources": None}, r"searcher\.resources: None is not allowed"),
        ({"resources": ["params"], "finals": 0}, r"searcher\.finals: 0 is not allowed; give a positive integer"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(ConfigError, match=message):
        check_searcher(name, options)


def test_one_resource_may_be_named_alone_and_none_where_none_is_needed():
    assert resource_names("params") == ("params",)
    assert resource_names(["params", "bytes"]) == ("params", "bytes")
    assert resource_names([]) == ()
    with pytest.raises(ConfigError, match="one or more"):
        resource_names([], least=1)
