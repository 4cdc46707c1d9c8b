import numpy as np

from sparsearch.search import Evaluate
from sparsearch.search.scores import Scores, draw_sequences
from sparsearch.space import Allocation
from sparsearch.testing import quadratic_problem

A, B, C = (Allocation((level,)) for level in range(3))


def answered(steps, values):
    """What `steps` return once each request is answered by `values` [allocations]; and the requests."""
    requests = []
    try:
        request = next(steps)
        while True:
            requests.append(request)
            rows = [[values[allocation]] * len(request.sequences) for allocation in request.allocations]
            request = steps.send(np.array(rows))
    except StopIteration as end:
        return end.value, requests


def test_each_allocation_is_asked_for_once():
    scores, values = Scores((1, 4)), {A: 1.0, B: 2.0, C: 3.0}
    found, requests = answered(scores.rows([B, A, B]), values)
    assert requests == [Evaluate((B, A), (1, 4))]
    np.testing.assert_array_equal(found, [[2, 2], [1, 1], [2, 2]])
    found, requests = answered(scores.means([A, C]), values)
    assert requests == [Evaluate((C,), (1, 4))]
    np.testing.assert_array_equal(found, [1, 3])
    assert answered(scores.means([C, B, A]), values)[1] == []


def test_broken_models_have_an_infinite_mean():
    found, _ = answered(Scores((0,)).means([A, B, C]), {A: np.nan, B: np.inf, C: 1.0})
    np.testing.assert_array_equal(found, [np.inf, np.inf, 1.0])


def test_drawn_sequences_are_distinct_sorted_and_of_the_panel():
    problem = quadratic_problem(sequences=10).problem
    rng = np.random.default_rng(0)
    draws = [draw_sequences(problem, 4, rng) for _ in range(20)]
    assert all(len(set(draw)) == 4 and list(draw) == sorted(draw) and draw[-1] < 10 for draw in draws)
    assert len(set(draws)) > 10
    assert draw_sequences(problem, 99, rng) == tuple(range(10))
