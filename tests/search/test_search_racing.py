from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sparsearch.search.racing import PRIOR, UNKNOWN, judge, race, standard_errors
from sparsearch.space import Allocation

BLOCKS = (2, 2, 4, 8)
PANEL = sum(BLOCKS)
SEEDS = 400


def run(table, blocks=BLOCKS, alpha=0.2, order=None):
    """A race on values `[incumbent + candidates, sequences]`: row of the winner, sequences used, requests."""
    rows = [Allocation((index,)) for index in range(len(table))]
    steps = race(rows[0], rows[1:], order or range(table.shape[1]), blocks, alpha)
    requests = []
    try:
        requests.append(next(steps))
        while True:
            wanted = [allocation.levels[0] for allocation in requests[-1].allocations]
            requests.append(steps.send(table[np.ix_(wanted, requests[-1].sequences)]))
    except StopIteration as end:
        winner, used = end.value
    return winner.levels[0], used, requests


def noisy(means, seed, panel=PANEL):
    """Values around `means`, which count from the incumbent; what a sequence adds to all is large."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(1 + len(means), panel))
    own[0] = 0
    return np.append(0.0, means)[:, None] + own + 20 * rng.normal(size=panel)


def forwards(requests):
    return sum(request.forwards for request in requests)


@pytest.mark.parametrize("count", [1, 4, 16])
def test_equals_of_the_incumbent_win_early_no_more_often_than_stated(count):
    """`alpha` bounds it; the test allows for the noise of 400 races."""
    early = [winner and used < PANEL for winner, used, _ in (run(noisy(np.zeros(count), s)) for s in range(SEEDS))]
    assert np.mean(early) <= 0.2 + 3 * np.sqrt(0.2 * 0.8 / SEEDS)


def test_an_equal_of_the_incumbent_is_dropped_no_more_often_than_stated():
    ended = [winner == 0 and used < PANEL for winner, used, _ in (run(noisy([0.0], s)) for s in range(SEEDS))]
    assert np.mean(ended) <= 0.2 + 3 * np.sqrt(0.2 * 0.8 / SEEDS)


def test_a_candidate_is_dropped_against_a_rival_no_more_often_than_stated():
    """Dropped against the incumbent or against the one rival, hence twice the probability."""
    lost = [
        used == PANEL and Allocation((1,)) not in requests[-1].allocations
        for _, used, requests in (run(noisy([0.0, 0.0], seed)) for seed in range(SEEDS))
    ]
    assert np.mean(lost) <= 0.4 + 3 * np.sqrt(0.4 * 0.6 / SEEDS)


@pytest.mark.parametrize("blocks", [BLOCKS, (1, 1, 2, 4, 8), (16,)])
def test_a_clearly_better_candidate_wins_every_time(blocks):
    means = np.array([0.5, 1.0, -6.0, 0.0, 2.0])
    assert all(run(noisy(means, seed), blocks)[0] == 3 for seed in range(100))


def test_it_saves_most_of_the_sequences_where_things_are_clear():
    full = 9 * PANEL
    better = [forwards(run(noisy([1.0, 2.0, -6.0, 0.0, 1.0, 3.0, 0.5, 1.5], seed))[2]) for seed in range(50)]
    worse = [forwards(run(noisy(np.full(8, 5.0), seed))[2]) for seed in range(50)]
    assert np.mean(better) < full / 4
    assert np.mean(worse) < full / 4


def test_the_more_alike_the_more_sequences():
    near, far = ([run(noisy([gap, gap], seed))[1] for seed in range(100)] for gap in (-0.2, -3.0))
    assert np.mean(far) < np.mean(near) / 1.5


def test_blocks_go_along_the_order_and_survivors_with_the_incumbent_go_on():
    table = noisy(np.zeros(6), 1)
    order = np.random.default_rng(0).permutation(PANEL).tolist()
    _, used, requests = run(table, order=order)
    asked = [set(request.sequences) for request in requests]
    ends = np.cumsum(BLOCKS)[: len(requests)]
    assert [len(block) for block in asked] == list(BLOCKS[: len(requests)])
    assert [set().union(*asked[: index + 1]) for index in range(len(ends))] == [set(order[:end]) for end in ends]
    assert used == ends[-1]
    for before, after in pairwise(requests):
        assert after.allocations[0] == Allocation((0,))
        assert set(after.allocations) <= set(before.allocations)


def test_a_short_panel_cuts_the_blocks():
    _, used, requests = run(noisy([0.0, 0.0], 3, panel=5), alpha=1e-6)
    assert [len(request.sequences) for request in requests] == [2, 2, 1]
    assert used == 5


def test_models_pruned_to_death_never_win_unless_the_incumbent_is_one():
    table = noisy([-8.0, -5.0, -4.0], 0)
    table[1] = np.nan
    assert run(table)[0] == 2
    table[0] = np.inf
    assert run(table)[0] == 2
    table[2:] = np.nan
    assert run(table)[0] == 0
    assert run(table)[1] == BLOCKS[0], "nobody is left"


@given(st.integers(0, 2**32), st.integers(1, 12), st.floats(0.01, 0.5), st.lists(st.integers(1, 6), min_size=1))
@settings(max_examples=100, deadline=None)
def test_the_winner_is_better_on_the_sequences_that_it_has(seed, count, alpha, blocks):
    table = noisy(np.random.default_rng(seed).normal(size=count), seed)
    winner, used, requests = run(table, blocks, alpha)
    assert used == sum(len(request.sequences) for request in requests)
    assert winner == 0 or table[winner, :used].mean() < table[0, :used].mean()
    assert (winner, used, requests) == run(table, blocks, alpha)


def test_standard_errors_of_one_row_are_the_usual_ones():
    row = np.random.default_rng(0).normal(size=(1, 7))
    errors, freedom = standard_errors(row)
    np.testing.assert_allclose(errors, stats.sem(row[0]))
    assert freedom == PRIOR + 6


def test_variances_are_shrunk_to_the_pooled_one():
    rows = np.array([[1.0, 1.0, 1.0], [0.0, 3.0, -3.0]])
    errors, _ = standard_errors(rows)
    own, pooled = np.array([0.0, 9.0]), 4.5
    np.testing.assert_allclose(errors, np.sqrt((PRIOR * pooled + 2 * own) / (PRIOR + 2) / 3))


def test_one_sequence_is_judged_by_the_spread_over_candidates():
    errors, freedom = standard_errors(np.array([[1.0], [4.0], [7.0]]))
    np.testing.assert_allclose(errors, 3.0)
    assert freedom == 2
    assert standard_errors(np.array([[1.0]]))[0] == UNKNOWN


def test_judging_without_noise_is_exact():
    look = judge(np.array([[-1.0, -1.0], [1.0, 1.0], [-3.0, -3.0], [-3.0, -3.0]]), 0.05, 0.01)
    assert (look.leader, look.gain, look.error, look.won) == (2, -3.0, 0.0, True)
    assert look.stays.tolist() == [False, False, True, True]


def test_one_candidate_on_one_sequence_decides_nothing():
    look = judge(np.array([[5.0]]), 0.05, 0.05)
    assert look.stays.all() and not look.won
