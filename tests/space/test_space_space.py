import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsearch.errors import ConfigError
from sparsearch.model.site import Site
from sparsearch.space import Allocation, SearchSpace, level_grid, linear_space

SITES = [Site("a", "a", "up", 0, (4, 10)), Site("b", "b", "down", 0, (6, 8)), Site("c", "c", "up", 1, (4, 10))]


@pytest.fixture
def space():
    return linear_space(SITES, level_grid([0.25, "2:4", 0.9]), itemsize=2, other_params=100, other_flops=50)


@given(st.lists(st.integers(0, 65535), max_size=300))
def test_allocation_bytes_round_trip(levels):
    allocation = Allocation.of(np.array(levels, dtype=np.int64))
    assert Allocation.from_bytes(allocation.to_bytes()) == allocation
    assert len(allocation.to_bytes()) == 2 * len(allocation)
    assert all(type(level) is int for level in allocation.levels)


def test_allocation_is_a_value():
    allocation = Allocation((0, 1, 2))
    assert hash(allocation) == hash(Allocation.of([0, 1, 2]))
    assert allocation.replace({1: 3}) == Allocation((0, 3, 2))
    allocation.array[0] = 9
    assert allocation == Allocation((0, 1, 2))


def test_sites_get_the_levels_that_fit_their_shape(space):
    assert [[level.label for level in levels] for levels in space.levels] == [
        ["dense", "0.25", "0.9"],
        ["dense", "0.25", "2:4", "0.9"],
        ["dense", "0.25", "0.9"],
    ]
    assert space.counts.tolist() == [3, 4, 3]
    assert space.valid.tolist() == [[True] * 3 + [False], [True] * 4, [True] * 3 + [False]]


def test_costs_are_those_of_the_formulas(space):
    # Of 40 and 48 weights 0.25 removes 10 and 12, 0.9 removes 36 and 44 (rounded up), 2:4 removes 24 of 48.
    assert space.costs["params"].tolist() == [[40, 30, 4, np.inf], [48, 36, 24, 4], [40, 30, 4, np.inf]]
    assert space.costs["flops"][1].tolist() == [96, 72, 48, 8]
    assert space.costs["bytes"].tolist() == [[80, 65, 13, np.inf], [96, 78, 54, 14], [80, 65, 13, np.inf]]
    allocation = Allocation((1, 2, 0))
    assert space.cost("params", allocation) == 30 + 24 + 40 + 100
    assert space.cost("bytes", space.dense()) == 80 + 96 + 80 + 200
    assert space.cost("flops", allocation) == 2 * (30 + 24 + 40) + 50
    assert space.sparsity(allocation) == pytest.approx((10 + 24) / 128)
    assert space.prunable == 128


def test_site_cost_takes_many_allocations_at_once(space):
    levels = np.array([[0, 0, 0], [2, 3, 2], [1, 2, 0]])
    assert space.site_cost("params", levels).tolist() == [128, 12, 94]


def test_dense_and_sparsest(space):
    assert space.dense() == Allocation((0, 0, 0))
    assert space.sparsest() == Allocation((2, 3, 2))


@pytest.mark.parametrize(
    ("levels", "message"),
    [((0, 0), "2 levels, the search space has 3"), ((0, 0, 3), "site c: .* outside 0 to 2"), ((-1, 0, 0), "site a")],
)
def test_foreign_allocations_are_refused(space, levels, message):
    with pytest.raises(ConfigError, match=message):
        space.check(Allocation(levels))


def test_every_site_has_the_level_that_an_allocation_names(space):
    allocation = Allocation.of(np.arange(len(space)) % space.counts)
    chosen = space.chosen(allocation)
    assert list(chosen) == list(space.sites)
    for number, level in enumerate(chosen.values()):
        assert level == space.levels[number][allocation.levels[number]]


def test_a_space_without_sites_is_refused():
    with pytest.raises(ConfigError, match="no sites"):
        linear_space([], level_grid([0.5]), itemsize=2)
    with pytest.raises(ConfigError, match="no sites"):
        SearchSpace((), (), {}, {})


def test_describe_is_json(space):
    rows = json.loads(json.dumps(space.describe()))
    assert rows[1] == {
        "name": "b", "kind": "down", "block": 0, "shape": [6, 8], "levels": ["dense", "0.25", "2:4", "0.9"],
    }  # fmt: skip
