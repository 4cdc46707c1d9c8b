"""Budgets in milliseconds: every searcher meets them, and the knapsack is exact under them."""

import dataclasses
import itertools

import numpy as np
import pytest
import test_search_conformance as conformance
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsearch.search import ALLOCATORS, make_searcher
from sparsearch.space import Budget, SearchSpace
from sparsearch.space.repair import cheapest, uniform
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import SearcherConformance, drive

SEARCHERS = {
    name: suite
    for name, suite in vars(conformance).items()
    if isinstance(suite, type) and issubclass(suite, SearcherConformance) and name.startswith("Test")
    if "make" in vars(suite) and name not in ("TestAllocators", "TestGP")
}
"""The allocators have a test of their own; GP is slow, and TPE shares how it meets a budget."""


def with_latency(synthetic, seed=0, **budget):
    """The problem on a machine where sparsity up to a half buys no time, sizes do not tell it, and times are noisy."""
    space = synthetic.problem.space
    rng = np.random.default_rng(seed)
    sizes = np.array([site.size for site in space.sites])[:, None] ** 0.7
    faster = np.minimum(1.0, 1.6 * (1 - np.nan_to_num(space.sparsities)))
    noise = np.where(faster < 1, rng.uniform(0.95, 1.05, space.valid.shape), 1.0)
    seconds = np.where(space.valid, 1e-6 * sizes * faster * noise * rng.uniform(0.5, 2, sizes.shape), np.inf)
    timed = SearchSpace(
        space.sites, space.levels, {**space.costs, "latency": seconds}, {**space.constants, "latency": 1e-5}
    )
    limits = Budget(**budget).limits(timed)
    return dataclasses.replace(synthetic, problem=dataclasses.replace(synthetic.problem, space=timed, limits=limits))


@pytest.mark.parametrize(
    "budget", [{"latency": "0.6x"}, {"latency": "0.7x", "bytes": "0.8x", "sparsity": 0.3}], ids=str
)
@pytest.mark.parametrize("name", SEARCHERS)
def test_every_searcher_meets_a_latency(name, budget):
    synthetic = with_latency(quadratic_problem(noise=0.5), **budget)
    best = drive(SEARCHERS[name]().make(synthetic.problem, 0), synthetic).best
    assert synthetic.problem.limits.met(best)


@pytest.mark.parametrize("name", ALLOCATORS)
def test_every_allocator_meets_a_latency(name):
    synthetic = with_latency(quadratic_problem(), latency="0.6x")
    best = drive(make_searcher(name, {}, synthetic.problem, 0), synthetic).best
    assert synthetic.problem.limits.met(best)


@given(st.integers(0, 10_000), st.floats(0.35, 0.95), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_knapsack_under_a_latency_is_as_good_as_trying_everything(seed, share, several):
    block = {"a": (8, 16), "b": (4, 16), "c": (16, 24)}
    plain = quadratic_problem(block=block, blocks=2, levels=[0.5, 0.7, 0.9], seed=seed)
    more = {"sparsity": 0.4} if several else {}
    bound = f"{share}x" if share > 0.6 else "0.6x"
    synthetic = with_latency(plain, seed, latency=bound, **more)
    space, limits = synthetic.problem.space, synthetic.problem.limits
    values = synthetic.errors**2
    best = min(
        values[np.arange(len(space)), levels].sum()
        for levels in map(np.array, itertools.product(*(range(count) for count in space.counts)))
        if (limits.spent(levels) <= limits.bounds).all()
    )
    found = cheapest(space, limits, values)
    assert limits.met(found)
    assert values[np.arange(len(space)), found.array].sum() == pytest.approx(best, rel=1e-12)


def test_levels_that_cost_quality_and_buy_no_time_are_avoided():
    synthetic = with_latency(quadratic_problem(), latency="0.7x")
    space = synthetic.problem.space
    found = cheapest(space, synthetic.problem.limits, synthetic.errors**2)
    chosen = space.sparsities[np.arange(len(space)), found.array]
    assert ((chosen == 0) | (chosen > 0.375)).all() and (chosen == 0).any()


def test_nsga_takes_latency_as_an_objective():
    synthetic = with_latency(quadratic_problem(), latency="0.9x")
    options = {"resources": ["latency", "bytes"], "generations": 3, "population": 10, "sequences": 4, "finals": 8}
    searcher = make_searcher("nsga3", options, synthetic.problem, 0)
    drive(searcher, synthetic)
    front, space = searcher.front, synthetic.problem.space
    assert front.names == ("latency", "bytes")
    for allocation, costs in zip(front.allocations, front.resources, strict=True):
        assert costs[0] == pytest.approx(space.cost("latency", allocation))
    assert (np.diff(front.resources[:, 0]) >= 0).all()


def test_uniform_meets_a_latency_and_leaves_no_denser_step():
    synthetic = with_latency(quadratic_problem(), latency="0.6x")
    assert synthetic.problem.limits.met(uniform(synthetic.problem.space, synthetic.problem.limits))
