import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsearch.space import Allocation, Budget
from sparsearch.space.window import Window
from sparsearch.testing import quadratic_problem

PROBLEM = quadratic_problem(Budget(sparsity=0.5, bytes="0.62x"), blocks=2).problem
SPACE, LIMITS = PROBLEM.space, PROBLEM.limits
kept_levels = st.tuples(*(st.sets(st.integers(0, count - 1), min_size=1) for count in SPACE.counts.tolist()))


@given(kept_levels, st.data())
def test_an_allocation_costs_the_same_inside_and_outside(kept, data):
    window = Window(tuple(tuple(sorted(levels)) for levels in kept))
    inner = Allocation.of(data.draw(st.integers(0, len(levels) - 1)) for levels in window.levels)
    outer = window.outer(inner)
    assert window.inner(outer) == inner
    assert all(level in levels for level, levels in zip(outer.levels, window.levels, strict=True))
    space, limits = window.space(SPACE), window.limits(LIMITS)
    assert space.counts.tolist() == [len(levels) for levels in kept]
    for resource in SPACE.resources:
        assert space.cost(resource, inner) == SPACE.cost(resource, outer)
    assert space.sparsity(inner) == SPACE.sparsity(outer)
    assert limits.met(inner) == LIMITS.met(outer)
    np.testing.assert_array_equal(limits.costs, np.stack([space.costs[name] for name in limits.resources]))


def test_around_takes_every_step_within_reach_where_the_grid_has_a_level():
    space = quadratic_problem(blocks=1, block={"a": (8, 8), "b": (8, 8), "c": (8, 8)}).problem.space
    assert space.counts.tolist() == [10, 10, 10]
    around = Window.around(space, Allocation((0, 5, 9)), step=2, reach=2)
    assert around.levels == ((0, 2, 4), (1, 3, 5, 7, 9), (5, 7, 9))
    assert Window.around(space, Allocation((0, 5, 9)), step=16, reach=4).levels == ((0,), (5,), (9,))
    assert Window.whole(space).levels == (tuple(range(10)),) * 3


def test_a_level_that_is_not_in_it_has_no_index():
    window = Window.around(SPACE, Allocation((4,) * len(SPACE)), step=2, reach=1)
    with pytest.raises(ValueError):
        window.inner(Allocation((5,) * len(SPACE)))
