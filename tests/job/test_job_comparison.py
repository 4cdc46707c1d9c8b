"""Against a table of values: what was measured is shown, whatever a model would have said."""

from types import SimpleNamespace

import numpy as np
import pytest

from sparsearch.evaluation.objectives import make_objective
from sparsearch.job.comparison import Candidate, compare, curve
from sparsearch.job.loop import Milestone
from sparsearch.model.site import Site
from sparsearch.space import Allocation, level_grid, linear_space

SEQUENCES = 60
SPACE = linear_space([Site(f"s{i}", f"s{i}", "s", i, (8, 8)) for i in range(3)], level_grid([0.25, 0.5]), itemsize=2)
DENSE, UNIFORM, BEST = (Allocation(levels) for levels in ((0, 0, 0), (1, 1, 1), (2, 0, 1)))


class Heldout:
    """Held-out values from a table."""

    def __init__(self, tables, sequences=SEQUENCES):
        self.tables = tables
        objectives = [make_objective(name) for name in tables]
        self.evaluator = SimpleNamespace(objectives=objectives, panel=range(sequences))

    def all_values(self, allocations, sequences):
        return {
            name: np.array([table[allocation][list(sequences)] for allocation in allocations])
            for name, table in self.tables.items()
        }

    def values(self, allocations, sequences):
        return next(iter(self.all_values(allocations, sequences).values()))


@pytest.fixture
def kl():
    rng = np.random.default_rng(0)
    text = rng.gamma(2.0, 0.1, SEQUENCES)  # what makes some sequences harder than others for everyone
    noise = rng.normal(0, 0.002, SEQUENCES)
    return {DENSE: np.zeros(SEQUENCES), UNIFORM: 1.2 * text + 0.02, BEST: 1.2 * text + noise}


CANDIDATES = [
    Candidate("dense", DENSE),
    Candidate("uniform", UNIFORM),
    Candidate("searched: evopress", BEST, 3.5, 1e4),
]


def test_rows_hold_what_was_measured(kl):
    entropy = {allocation: 3.0 + values for allocation, values in kl.items()}
    found = compare(CANDIDATES, Heldout({"kl": kl, "perplexity": entropy}), SPACE, seed=0)
    assert found["objective"] == {"name": make_objective("kl").title, "unit": make_objective("kl").unit}
    assert [row["name"] for row in found["rows"]] == ["dense", "uniform", "searched: evopress"]
    for row, allocation, sparsity in zip(found["rows"], (DENSE, UNIFORM, BEST), (0, 0.25, 0.25), strict=True):
        assert row["objective"]["mean"] == pytest.approx(kl[allocation].mean())
        assert row["objective"]["low"] <= row["objective"]["mean"] <= row["objective"]["high"]
        assert row["perplexity"]["mean"] == pytest.approx(np.exp(entropy[allocation].mean()))
        assert row["sparsity"] == sparsity
    assert (found["rows"][2]["seconds"], found["rows"][2]["forward_tokens"]) == (3.5, 1e4)


def test_the_last_candidate_is_compared_in_pairs_with_all_but_dense(kl):
    found = compare(CANDIDATES, Heldout({"kl": kl}), SPACE, seed=0)
    (difference,) = found["differences"]
    assert (difference["candidate"], difference["reference"]) == ("searched: evopress", "uniform")
    interval = difference["interval"]
    assert interval["mean"] == pytest.approx((kl[BEST] - kl[UNIFORM]).mean())
    # What both have in common cancels: the interval is that of the noise, not that of the text.
    expected = 2 * 1.96 * 0.002 / np.sqrt(SEQUENCES)
    assert interval["high"] - interval["low"] == pytest.approx(expected, rel=0.4)
    assert interval["high"] < 0
    assert found["rows"][1]["perplexity"] is None


def test_equal_values_draw_equal_intervals_and_the_seed_decides(kl):
    one = compare(CANDIDATES, Heldout({"kl": kl}), SPACE, seed=0)
    assert compare(CANDIDATES, Heldout({"kl": kl}), SPACE, seed=0) == one
    assert compare(CANDIDATES, Heldout({"kl": kl}), SPACE, seed=1) != one


def test_a_perplexity_beyond_all_numbers_is_left_out(kl):
    entropy = {allocation: np.full(SEQUENCES, 1000.0) for allocation in kl}
    found = compare(CANDIDATES, Heldout({"kl": kl, "perplexity": entropy}), SPACE, seed=0)
    assert [row["perplexity"] for row in found["rows"]] == [None] * 3


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 57])
def test_the_curve_keeps_the_first_and_the_last_milestone_and_at_most_ten(kl, count):
    milestones = [Milestone(100.0 * index, BEST if index % 2 else UNIFORM) for index in range(count)]
    found = curve(milestones, {"uniform": UNIFORM}, Heldout({"kl": kl}), seed=0)
    tokens = [point[0] for point in found["points"]]
    assert (tokens[0], tokens[-1]) == (0.0, 100.0 * (count - 1))
    assert len(tokens) == min(count, 10)
    assert tokens == sorted(set(tokens))
    assert found["sequences"] == 32
    assert found["references"] == {"uniform": pytest.approx(kl[UNIFORM][:32].mean())}
    for at, interval in found["points"]:
        shown = milestones[int(at / 100)].allocation
        assert interval["mean"] == pytest.approx(kl[shown][:32].mean())


def test_a_short_panel_is_the_curve_s_own(kl):
    found = curve([Milestone(1.0, BEST)], {}, Heldout({"kl": kl}, sequences=5), seed=0)
    assert found["sequences"] == 5
    assert found["points"][0][1]["mean"] == pytest.approx(kl[BEST][:5].mean())
