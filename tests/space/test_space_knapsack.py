import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsearch.space import knapsack
from sparsearch.space.knapsack import solve_knapsack


def brute_force(values, valid, costs, bounds):
    rows = np.arange(len(values))
    best = None
    for choice in itertools.product(*(np.flatnonzero(row) for row in valid)):
        if (costs[:, rows, choice].sum(axis=1) <= bounds).all():
            value = values[rows, choice].sum()
            best = value if best is None else min(best, value)
    return best


def dynamic_programming(values, costs, bound):
    """Exact for whole costs and one bound: the least value by units spent."""
    best = np.zeros(bound + 1)
    for row_values, row_costs in zip(values, costs, strict=True):
        table = np.full(bound + 1, np.inf)
        for value, cost in zip(row_values, row_costs, strict=True):
            if cost <= bound:
                table[cost:] = np.minimum(table[cost:], best[: bound + 1 - cost] + value)
        best = table
    return best[bound]


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    sites, levels, resources = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    valid = np.arange(levels) < rng.integers(1, levels + 1, size=(sites, 1))
    kind = draw(st.sampled_from(["normal", "ties", "zero", "huge"]))
    values = {
        "normal": rng.normal(size=valid.shape),
        "ties": rng.integers(0, 3, size=valid.shape).astype(float),
        "zero": np.zeros(valid.shape),
        "huge": rng.lognormal(sigma=8, size=valid.shape),
    }[kind]
    whole = draw(st.booleans())
    costs = rng.integers(0, 20, size=(resources, *valid.shape)).astype(float)
    costs = costs if whole else costs * rng.random(costs.shape)
    if draw(st.booleans()):
        costs = -np.sort(-costs, axis=2)
    if draw(st.booleans()):
        costs[-1] = 2 * costs[0]
    one = costs[:, np.arange(sites), [rng.integers(row.sum()) for row in valid]].sum(axis=1)
    factor = draw(st.sampled_from([0.5, 0.8, 1.0, 1.0, 1.00001, 1.2]))
    return values, valid, np.where(valid, costs, np.inf), one * factor * (1 + 1e-12)


@given(problems())
@settings(max_examples=300, deadline=None)
def test_it_equals_brute_force(problem):
    values, valid, costs, bounds = problem
    best, levels = brute_force(*problem), solve_knapsack(*problem)
    assert (levels is None) == (best is None)
    if levels is not None:
        rows = np.arange(len(values))
        assert valid[rows, levels].all()
        assert (costs[:, rows, levels].sum(axis=1) <= bounds).all()
        assert values[rows, levels].sum() <= best + 1e-9 * max(abs(best), 1)


def sensitivities(seed, sites=60, levels=12, spread=1.0):
    """Values that grow with the level, sites of three sizes, costs in whole units: what searches solve."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([40, 160, 560], size=sites)
    grid = np.linspace(0, 0.95, levels)
    values = np.exp(spread * rng.normal(size=sites))[:, None] * sizes[:, None] * grid**3
    costs = np.round(sizes[:, None] * (1 - grid)).astype(np.int64)
    return values, costs


def test_it_equals_dynamic_programming():
    for seed, share in itertools.product(range(4), (0.3, 0.5, 0.57)):
        values, costs = sensitivities(seed, spread=seed / 2)
        bound = int(share * costs[:, 0].sum())
        levels = solve_knapsack(values, np.ones(values.shape, bool), costs[None].astype(float), np.array([bound + 0.5]))
        rows = np.arange(len(values))
        assert costs[rows, levels].sum() <= bound
        np.testing.assert_allclose(values[rows, levels].sum(), dynamic_programming(values, costs, bound), rtol=1e-12)


def test_two_binding_bounds_come_near_the_lower_bound():
    values, params = sensitivities(0)
    rng = np.random.default_rng(1)
    latency = params * rng.uniform(0.1, 3, size=(len(params), 1))
    costs = np.stack([params, latency])
    bounds = np.array([0.5, 0.47]) * costs[:, :, 0].sum(axis=1)
    levels = solve_knapsack(values, np.ones(values.shape, bool), costs, bounds)
    prices = knapsack._prices(values, np.ones(values.shape, bool), costs, bounds)
    assert (prices > 0).all(), "both bounds should bind"
    floor = (values + np.tensordot(prices, costs, axes=1)).min(axis=1).sum() - prices @ bounds
    assert values[np.arange(len(values)), levels].sum() <= floor * 1.005


def test_it_is_silent_and_deterministic(capfd):
    values, costs = sensitivities(3)
    arguments = values, np.ones(values.shape, bool), costs[None].astype(float), np.array([0.5 * costs[:, 0].sum()])
    first, second = solve_knapsack(*arguments), solve_knapsack(*arguments)
    assert (first == second).all()
    assert capfd.readouterr() == ("", "")


def test_scaling_values_or_units_changes_nothing():
    values, costs = sensitivities(2, spread=0.5)
    valid, costs, bounds = np.ones(values.shape, bool), costs[None].astype(float), np.array([0.5 * costs[:, 0].sum()])
    plain = solve_knapsack(values, valid, costs, bounds)
    rows = np.arange(len(values))
    for factor, unit in ((1e-12, 1.0), (1e9, 2.0**20)):
        scaled = solve_knapsack(values * factor, valid, costs * unit, bounds * unit)
        np.testing.assert_allclose(values[rows, scaled].sum(), values[rows, plain].sum(), rtol=1e-9)


def test_arguments_are_left_alone():
    values, costs = sensitivities(1, sites=6)
    arguments = values, np.ones(values.shape, bool), costs[None].astype(float), np.array([0.6 * costs[:, 0].sum()])
    copies = [argument.copy() for argument in arguments]
    solve_knapsack(*arguments)
    for argument, copy in zip(arguments, copies, strict=True):
        np.testing.assert_array_equal(argument, copy)
