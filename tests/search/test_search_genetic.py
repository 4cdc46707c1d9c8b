"""NSGA-II and NSGA-III against the front by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from search_references import true_front, volume

from sparsearch.errors import ConfigError
from sparsearch.search import make_searcher
from sparsearch.search.front import crowding, make_front, nondominated, thin
from sparsearch.search.nsga3 import partitions
from sparsearch.space.allocation import Allocation
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import drive

NAMES = ("nsga2", "nsga3")
BLOCK = {"attn.q_proj": (16, 16), "mlp.up_proj": (16, 48)}

every = pytest.mark.parametrize("name", NAMES)


def tiny():
    """4 sites, 4 levels, 256 allocations, no noise between sequences."""
    return quadratic_problem(block=BLOCK, blocks=2, levels=(0.3, 0.6, 0.8), noise=0.0, interaction=0.2)


@every
def test_front_is_near_brute_force(name):
    synthetic = tiny()
    space = synthetic.problem.space
    truth = true_front(synthetic, "params")
    searcher = make_searcher(name, {"generations": 20, "population": 24}, synthetic.problem, 0)
    best = drive(searcher, synthetic).best
    corner = truth.resources.max() * 1.01, truth.values.max() * 1.01
    assert volume(searcher.front, corner) >= 0.97 * volume(truth, corner)
    assert synthetic.mean(best) == pytest.approx(truth.values.min(), rel=0.02)
    assert searcher.front.resources.min() == space.cost("params", space.sparsest())


@every
def test_front_is_sound(name):
    synthetic = quadratic_problem(blocks=1, noise=0.3)
    space = synthetic.problem.space
    options = {"resources": ["params", "flops"], "generations": 6, "population": 12}
    searcher = make_searcher(name, options, synthetic.problem, 0)
    assert searcher.front is None
    run = drive(searcher, synthetic)
    front = searcher.front
    assert 1 < len(front.allocations) <= 12
    assert nondominated(np.column_stack([front.values, front.resources])).all()
    assert all(synthetic.problem.limits.met(each) for each in front.allocations)
    assert run.best == front.allocations[int(front.values.argmin())]
    assert (np.diff(front.resources[:, 0]) >= 0).all()
    for allocation, value, spent in zip(front.allocations, front.values, front.resources, strict=True):
        assert spent.tolist() == [space.cost(each, allocation) for each in ("params", "flops")]
        drawn = run.requests[-1].sequences
        assert value == pytest.approx(synthetic.values([allocation], drawn).mean())


@every
@pytest.mark.parametrize("population", [2, 5, 9, 40])
def test_the_first_generation_has_the_start_and_the_sparsest_allocation(name, population):
    synthetic = quadratic_problem(blocks=1)
    searcher = make_searcher(name, {"population": population}, synthetic.problem, 0)
    levels = searcher.first_generation()
    assert levels.shape == (population, len(synthetic.problem.space))
    assert levels[0].tolist() == list(synthetic.problem.first().levels)
    assert list(synthetic.problem.space.sparsest().levels) in levels.tolist()


@every
def test_resumed_front_is_equal(name):
    synthetic = quadratic_problem(blocks=1, noise=0.3)
    options = {"generations": 5, "population": 10}
    whole = make_searcher(name, options, synthetic.problem, 4)
    run = drive(whole, synthetic)
    resumed = make_searcher(name, options, synthetic.problem, 4)
    for request, answer in zip(run.requests[:3], run.answers, strict=False):
        assert resumed.ask() == request
        resumed.tell(answer)
    drive(resumed, synthetic)
    assert resumed.front.allocations == whole.front.allocations
    assert resumed.front.values.tolist() == whole.front.values.tolist()


@every
def test_unknown_resource_is_refused(name):
    problem = tiny().problem
    with pytest.raises(ConfigError, match=r"searcher\.resources: 'energy' is no resource.*params"):
        make_searcher(name, {"resources": ["params", "energy"]}, problem, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resources": []}, "resources: .*one or more"),
        ({"resources": ["params", "params"]}, "each once"),
        ({"resources": [3]}, "names"),
        ({"generations": 0}, "generations: 0"),
        ({"population": 1}, "population: 1 .*2 objectives"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        make_searcher("nsga2", options, tiny().problem, 0)


def test_one_resource_may_be_named_alone():
    assert make_searcher("nsga2", {"resources": "bytes"}, tiny().problem, 0).options.resources == ("bytes",)


@pytest.mark.parametrize(("objectives", "most", "expected"), [(2, 32, 31), (3, 32, 6), (3, 3, 1), (4, 2, 1)])
def test_reference_directions_fit_the_population(objectives, most, expected):
    assert partitions(objectives, most) == expected


def test_thin_keeps_the_ends_and_the_least_crowded():
    front = make_front(
        tuple(Allocation((index,)) for index in range(5)),
        np.array([10.0, 9.9, 9.8, 4.0, 0.0]),
        np.array([[0.0], [0.1], [0.2], [5.0], [10.0]]),
    )
    assert [each.levels[0] for each in thin(front, 3).allocations] == [0, 3, 4]
    assert thin(front, 1).allocations == (Allocation((4,)),)
    assert thin(front, 9).allocations == front.allocations
    assert crowding(np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0]])).tolist() == [np.inf, 2.0, np.inf]
