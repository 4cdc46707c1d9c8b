import numpy as np
import pytest

from sparsearch.errors import ConfigError
from sparsearch.search import check_searcher, make_searcher
from sparsearch.space.repair import uniform
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import drive

SMALL = {"generations": 8, "offspring": 12, "starters": 4, "blocks": [2, 4, 8]}


def small(synthetic, seed=0, **changes):
    return make_searcher("evopress+race", SMALL | changes, synthetic.problem, seed)


def screens(run):
    """Index of the first request of every generation."""
    return [index for index, request in enumerate(run.requests) if len(request.sequences) == 1]


def test_the_best_on_one_sequence_race_against_the_parent():
    synthetic = quadratic_problem(noise=0.5, sequences=300)
    run = drive(small(synthetic), synthetic)
    parent = uniform(synthetic.problem.space, synthetic.problem.limits)
    begins = screens(run)
    assert len(begins) == 8
    for begin, end in zip(begins, [*begins[1:], len(run.requests)], strict=True):
        screen, first = run.requests[begin : begin + 2]
        ranking = np.argsort(run.answers[begin][:, 0], kind="stable")
        assert len(screen.allocations) == 12 and parent not in screen.allocations
        assert first.allocations == (parent, *[screen.allocations[index] for index in ranking[:4]])
        parent = run.progress[end].incumbent
        assert parent == first.allocations[0] or parent in run.requests[end - 1].allocations


def test_no_sequence_is_used_again_before_the_panel_is_used_up():
    synthetic = quadratic_problem(noise=0.5, sequences=40)
    run = drive(small(synthetic, generations=30), synthetic)
    counts = np.zeros(40, dtype=int)
    for request in run.requests:
        counts[list(request.sequences)] += 1
        assert counts.max() - counts.min() <= 1
    assert counts.min() > 1


def test_too_few_offspring_are_not_screened():
    synthetic = quadratic_problem()
    run = drive(small(synthetic, offspring=3), synthetic)
    assert not screens(run)
    assert len(run.requests[0].allocations) == 4


def test_it_spends_at_most_what_it_announces_and_little_of_it_where_gains_are_clear():
    synthetic = quadratic_problem(sequences=200)
    searcher = small(synthetic)
    spent = sum(request.forwards for request in drive(searcher, synthetic).requests)
    assert searcher.evaluations == 8 * (12 + 5 * 14)
    assert spent < searcher.evaluations / 2


def test_the_incumbent_never_gets_worse_without_noise():
    synthetic = quadratic_problem(interaction=0.5)
    run = drive(small(synthetic, generations=30), synthetic)
    values = [synthetic.mean(progress.incumbent) for progress in run.progress if progress.incumbent]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"survivors": [1]}, r"searcher\.survivors: evopress\+race has no such option"),
        ({"starters": 0}, r"searcher\.starters: 0 is not allowed; give a positive integer"),
        ({"blocks": []}, r"searcher\.blocks: the list is empty"),
        ({"generations": 0}, r"searcher\.generations: 0 is not allowed"),
        ({"alpha": 0}, r"searcher\.alpha: 0 is not allowed; give a number above 0 and at most 0\.5"),
        ({"alpha": 0.6}, r"searcher\.alpha: 0\.6 is not allowed"),
        ({"alpha": "5%"}, r"searcher\.alpha: '5%' is not allowed"),
        ({"alpha": True}, r"searcher\.alpha: True is not allowed"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        check_searcher("evopress+race", options)
