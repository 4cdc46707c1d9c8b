import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsearch.space import Allocation, Budget
from sparsearch.space.repair import repair, uniform
from sparsearch.space.wishes import fitted, is_tight, nearest
from sparsearch.testing import quadratic_problem

TWENTIETHS = [round(0.05 * step, 2) for step in range(1, 20)]


def make(budget, levels=TWENTIETHS):
    problem = quadratic_problem(budget, levels=levels).problem
    return problem.space, problem.limits


def sparsities(space, allocation):
    return space.sparsities[np.arange(len(space)), allocation.array]


def test_nearest_is_the_nearest_level_of_each_site_and_the_denser_of_two():
    space, _ = make(Budget(sparsity=0.5), levels=[0.25, 0.5, 1.0])
    wishes = np.resize([0.0, 0.1, 0.2, 0.375, 0.4, 0.74, 0.76, 1.0], len(space))
    labels = [levels[index].label for levels, index in zip(space.levels, nearest(space, wishes).levels, strict=True)]
    assert labels[:8] == ["dense", "dense", "0.25", "0.25", "0.5", "0.5", "1", "1"]


def test_levels_that_a_site_lacks_are_not_near():
    space, _ = make(Budget(sparsity=0.1), levels=["1:3", 0.1])  # 32 inputs take no group of three
    assert nearest(space, np.full(len(space), 0.66)).levels == (1,) * len(space)


@given(st.integers(0, 2**32), st.floats(0.1, 0.9), st.floats(0.1, 0.9))
@settings(max_examples=30, deadline=None)
def test_fitted_meets_the_budget_and_nearly_uses_it_up_wherever_the_wishes_are(seed, wished, sparsity):
    space, limits = make(Budget(sparsity=sparsity))
    rng = np.random.default_rng(seed)
    wishes = np.clip(wished + 0.1 * rng.normal(size=len(space)), 0, 1)
    allocation = fitted(space, limits, wishes)
    assert limits.met(allocation)
    # The projection alone would leave a wish of 90 % at a budget of 60 % where it is.
    assert space.sparsity(allocation) < sparsity + 0.05


@given(st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_what_meets_the_budget_and_is_tight_stays(seed):
    space, limits = make(Budget(sparsity=0.6))
    rng = np.random.default_rng(seed)
    allocation = repair(space, limits, rng.integers(0, space.counts), rng)
    assert is_tight(limits, allocation)
    assert fitted(space, limits, sparsities(space, allocation)) == allocation


def test_a_profile_of_another_budget_keeps_its_shape():
    space, limits = make(Budget(sparsity=0.6))
    denser = np.where(np.arange(len(space)) % 2, 0.8, 0.6)  # more than 60 % in all
    found = sparsities(space, fitted(space, limits, denser))
    odd, even = found[1::2], found[::2]
    assert odd.min() - even.max() >= 0.1
    assert np.ptp(odd) <= 0.1 and np.ptp(even) <= 0.1


def test_equal_wishes_give_the_uniform_sparsity():
    space, limits = make(Budget(sparsity=0.6))
    assert fitted(space, limits, np.full(len(space), 0.3)) == uniform(space, limits)


def test_tight_means_met_with_no_room_for_a_denser_level():
    space, limits = make(Budget(sparsity=0.6))
    tight = uniform(space, limits)
    assert is_tight(limits, tight)
    assert not is_tight(limits, space.dense())
    assert not is_tight(limits, space.sparsest())
    assert not is_tight(limits, Allocation((tight.levels[0] + 1, *tight.levels[1:])))


@pytest.mark.parametrize("budget", [Budget(sparsity=0.5, bytes="0.58x"), Budget(flops="0.6x")])
def test_other_resources_and_several_at_once(budget):
    space, limits = make(budget)
    assert limits.met(fitted(space, limits, np.full(len(space), 0.1)))
