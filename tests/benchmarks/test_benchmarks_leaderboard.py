"""The leaderboard: how budgets are met, how cells become ranks, and that its short form runs."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

from leaderboard import SCALINGS, Cutoff, OutOfTokens, fitted, largest, planned, standing  # noqa: E402
from ranking import Cell, ranked, table_rows  # noqa: E402

from sparsearch.job.journal import Journal  # noqa: E402
from sparsearch.job.loop import Milestone  # noqa: E402
from sparsearch.search import SEARCHERS, Progress  # noqa: E402
from sparsearch.space import Allocation  # noqa: E402
from sparsearch.testing import quadratic_problem  # noqa: E402


@pytest.mark.parametrize("budget", [9, 10, 25, 99.5, 1000])
def test_the_largest_value_that_fits_is_found(budget):
    def cost(value):
        return 10 * min(value, 20)  # a panel of 20 sequences

    fitting = [value for value in range(1, 100) if cost(value) <= budget]
    best = max(map(cost, fitting), default=None)
    assert largest(cost, budget) == (None if best is None else next(v for v in fitting if cost(v) == best))


@pytest.mark.parametrize("name", SCALINGS)
def test_planned_costs_fill_the_budget(name):
    problem = quadratic_problem(blocks=2).problem
    scaling = SCALINGS[name]
    least = planned(name, {**scaling.fixed, scaling.option: 1}, problem)
    assert fitted(name, problem, 0.99 * least) is None
    budget = 3.7 * least
    options = fitted(name, problem, budget)
    more = options | {scaling.option: options[scaling.option] + 1}
    assert planned(name, options, problem) <= budget < planned(name, more, problem) or (
        planned(name, more, problem) == planned(name, options, problem)  # the whole panel
    )


def test_the_others_run_with_their_defaults_and_what_needs_missing_errors_is_left_out():
    problem = replace(quadratic_problem(blocks=1).problem, errors=None)
    assert SCALINGS.keys() <= SEARCHERS.keys()
    found = {name: fitted(name, problem, 1e9) for name in SEARCHERS.keys() - SCALINGS}
    assert {name for name, options in found.items() if options is None} == {"layer_error"}
    assert all(not options for options in found.values())


def test_a_search_ends_beyond_its_budget_and_only_what_it_stood_by_within_it_counts():
    cutoff = Cutoff(100.0)
    nothing = Progress(0, 1, None)
    cutoff(nothing, 60.0)
    cutoff(nothing, 100.0)
    with pytest.raises(OutOfTokens):
        cutoff(nothing, 101.0)
    assert cutoff.used == 100.0
    milestones = [Milestone(tokens, Allocation((index,))) for index, tokens in enumerate((60.0, 100.0, 101.0))]
    assert standing(milestones, 100.0) == Allocation((1,))
    assert standing(milestones, 59.0) is None


def cell(searcher, seed, mean, tokens=1e3, perplexity=20.0):
    if mean is None:
        return Cell("m", 0.6, searcher, False, seed, tokens, 1.0)
    ends = {"low": mean - 0.01, "high": mean + 0.02}
    return Cell("m", 0.6, searcher, False, seed, tokens, 1.0, {"mean": mean} | ends, {"mean": perplexity} | ends)


def test_rows_are_sorted_by_the_median_and_show_its_interval_and_the_range_of_seeds():
    cells = [cell("b", seed, mean) for seed, mean in enumerate((0.3, 0.2, 0.1))]
    cells += [
        cell("a", seed, mean, tokens) for seed, (mean, tokens) in enumerate([(0.15, 5e3), (None, 7e3), (0.15, 6e3)])
    ]
    cells += [cell("none", 0, None)]
    first, second, last = table_rows(cells)
    assert [row["searcher"] for row in (first, second, last)] == ["a", "b", "none"]
    assert (first["held-out"], first["seeds"], first["tokens"]) == ("0.1500", "2 of 3", "6.00 k")
    assert (second["interval"], second["seeds' range"]) == ("0.1900 to 0.2200", "0.1000 to 0.3000")
    assert second["perplexity"] == "20.00" and second["seeds"] == "3"
    assert (last["held-out"], last["interval"], last["perplexity"], last["rank"]) == ("-", "-", "-", 3)
    assert list(ranked([*cells, Cell("m", 0.7, "a", False, 0, 1.0, 1.0)])) == [("m", 0.6), ("m", 0.7)]


NAMES = ("uniform", "layer_error", "taylor", "fisher", "random", "greedy", "rd", "nsga2", "quadratic")


def test_the_short_form_runs_and_keeps_its_cells(tmp_path):
    out, work = tmp_path / "result.json", tmp_path / "work"
    command = [sys.executable, str(FOLDER / "leaderboard.py"), "--quick", "--out", str(out), "--work", str(work)]
    command += ["--only", *NAMES]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    rows = {row["searcher"]: row for row in found["rows"]}
    assert rows.keys() == set(NAMES)
    assert rows["layer_error"]["held-out"] == rows["nsga2"]["held-out"] == "-"
    for name in ("uniform", "taylor", "fisher", "random", "greedy", "rd", "quadratic"):
        assert float(rows[name]["held-out"]) > 0 and float(rows[name]["perplexity"]) > 1
    spent = {cell["searcher"]: cell["tokens"] for cell in found["cells"]}
    assert spent["uniform"] == 0 < spent["fisher"] and max(spent.values()) <= found["tokens"]
    assert found["checks"][0]["passed"] and out.with_suffix(".png").stat().st_size > 10_000
    kept = [Journal.read(path).fact("result") for path in work.glob("*/journal.sqlite")]
    assert {result["searcher"] for result in kept} == set(NAMES) - {"layer_error", "nsga2"}
    assert all(result in found["cells"] for result in kept)
