import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsearch.model.site import Site
from sparsearch.search.basis import curve_allocation, depth_basis, orthogonal_polynomials, scaled_allocation
from sparsearch.space import Budget, level_grid, linear_space
from sparsearch.space.repair import cheapest, uniform
from sparsearch.testing import quadratic_problem

TWENTIETHS = [round(0.05 * step, 2) for step in range(1, 20)]


def make(budget=None, **options):
    problem = quadratic_problem(budget, levels=TWENTIETHS, **options).problem
    return problem.space, problem.limits


def space_of(*kinds, shape=(8, 32)):
    """Sites from (kind, block) pairs."""
    sites = [Site(f"{block}.{kind}", f"{block}.{kind}", kind, block, shape) for kind, block in kinds]
    return linear_space(sites, level_grid([0.25, 0.5, "2:4"]), itemsize=2)


def test_curves_of_a_kind_are_orthogonal_and_those_of_others_lie_elsewhere():
    space, _ = make(blocks=9)
    basis = depth_basis(space, 4)
    assert basis.columns.shape == (63, 28)
    np.testing.assert_allclose(basis.columns.T @ basis.columns, 9 * np.eye(28), atol=1e-9)
    for column, name in zip(basis.columns.T, basis.names, strict=True):
        assert {site.kind for site, value in zip(space.sites, column, strict=True) if value} == {name.split(":")[0]}


def test_curves_are_the_discrete_legendre_polynomials():
    """Against the closed forms for equidistant points: 1, x, x^2 - (n^2 - 1) / 12 with x counted from the middle."""
    x = np.arange(8) - 3.5
    forms = np.stack([np.ones(8), x, x**2 - (8**2 - 1) / 12], axis=1)
    forms /= np.sqrt((forms**2).mean(axis=0))
    np.testing.assert_allclose(orthogonal_polynomials(list(range(3, 11)), 3), forms, atol=1e-12)


def test_a_kind_gets_no_more_coefficients_than_it_has_depths():
    space = space_of(("q", 0), ("late", 2), ("q", 1), ("late", 3), ("q", 2), ("q", 3), ("head", 4))
    basis = depth_basis(space, 3)
    assert basis.names == ("q:0", "q:1", "q:2", "late:0", "late:1", "head:0")
    assert basis.degrees == (0, 1, 2, 0, 1, 0)
    np.testing.assert_allclose(basis.columns[[1, 3]][:, 4], [-1, 1])


def test_experts_share_their_curves():
    experts = [(f"mlp.experts.{number}.w1", block) for block in range(3) for number in range(4)]
    basis = depth_basis(space_of(*experts), 2)
    assert basis.names == ("mlp.experts.*.w1:0", "mlp.experts.*.w1:1")
    assert np.ptp(basis.columns.reshape(3, 4, 2), axis=1).max() < 1e-12


def test_sites_without_a_choice_have_no_coefficient():
    sites = [Site("a", "a", "a", 0, (8, 32)), Site("b", "b", "b", 0, (8, 30))]
    basis = depth_basis(linear_space(sites, level_grid(["2:4"]), itemsize=2), 2)
    assert basis.names == ("a:0",)
    nothing = depth_basis(linear_space(sites[1:], level_grid(["2:4"]), itemsize=2), 2)
    assert nothing.columns.shape == (1, 0)


@given(st.floats(0.0, 0.94))
@settings(max_examples=20, deadline=None)
def test_no_coefficients_are_uniform_and_the_additive_optimum(sparsity):
    space, limits = make(Budget(sparsity))
    basis = depth_basis(space, 2)
    zero = np.zeros(basis.columns.shape[1])
    costs = np.random.default_rng(0).random(space.valid.shape).cumsum(axis=1)
    assert curve_allocation(space, limits, basis, zero) == uniform(space, limits)
    assert scaled_allocation(space, limits, basis, costs, zero) == cheapest(space, limits, costs)


@given(st.integers(0, 2**32), st.floats(0.0, 0.94), st.booleans(), st.floats(0.01, 4))
@settings(max_examples=40, deadline=None)
def test_every_coefficient_vector_meets_the_budget(seed, sparsity, also_bytes, span):
    space, limits = make(Budget(sparsity, bytes="0.7x") if also_bytes else Budget(sparsity))
    basis = depth_basis(space, 2)
    rng = np.random.default_rng(seed)
    coefficients = span * rng.uniform(-1, 1, size=basis.columns.shape[1])
    costs = rng.random(space.valid.shape).cumsum(axis=1)
    for allocation in (
        curve_allocation(space, limits, basis, coefficients),
        scaled_allocation(space, limits, basis, costs, coefficients),
    ):
        space.check(allocation)
        assert limits.met(allocation)


@pytest.mark.parametrize("shift", [-0.3, 0.2])
def test_what_is_common_to_all_kinds_changes_nothing(shift):
    space, limits = make(blocks=4)
    basis = depth_basis(space, 2)
    some = 0.1 * np.random.default_rng(0).normal(size=basis.columns.shape[1])
    shifted = some + shift * (np.array(basis.degrees) == 0)
    costs = np.random.default_rng(1).random(space.valid.shape).cumsum(axis=1)
    first, second = (curve_allocation(space, limits, basis, vector) for vector in (some, shifted))
    assert first == second
    first, second = (scaled_allocation(space, limits, basis, costs, vector) for vector in (some, shifted))
    assert first == second


def test_curves_spend_the_whole_budget_and_move_kinds_and_depths_as_they_say():
    space, limits = make(blocks=8)
    basis = depth_basis(space, 2)
    vector = np.zeros(14)
    vector[basis.names.index("mlp.up_proj:0")] = 0.2
    vector[basis.names.index("mlp.down_proj:1")] = -0.1
    allocation = curve_allocation(space, limits, basis, vector)
    assert space.sparsity(allocation) == pytest.approx(0.6, abs=5e-3)
    chosen = space.sparsities[np.arange(len(space)), allocation.array].reshape(8, 7)
    kinds = [site.kind for site in space.sites[:7]]
    up, down, other = (chosen[:, kinds.index(kind)] for kind in ("mlp.up_proj", "mlp.down_proj", "self_attn.o_proj"))
    assert up.mean() - other.mean() == pytest.approx(0.2, abs=0.02)
    curve = orthogonal_polynomials(list(range(8)), 2)[:, 1]
    assert np.polyfit(curve, down, 1)[0] == pytest.approx(-0.1, abs=0.02)


def test_larger_factors_spare_a_kind():
    space, limits = make(blocks=4)
    basis = depth_basis(space, 1)
    costs = np.nan_to_num(space.sparsities) ** 2 * np.array([site.size for site in space.sites])[:, None]
    kind = basis.names.index("mlp.up_proj:0")
    levels = [
        scaled_allocation(space, limits, basis, costs, factor * np.eye(7)[kind]).array[kind::7].mean()
        for factor in (-1, 0, 1)
    ]
    assert levels[0] > levels[1] > levels[2]
