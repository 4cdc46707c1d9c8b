import pytest
import tiny_jobs

from sparsearch.job.journal import Journal
from sparsearch.search import ALLOCATORS

LENGTH = 31
TOKENS = 12 * LENGTH
"""Of the whole search panel."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory, tiny_llama_folder):
    """The comparison of a finished job, by name in its order."""
    run = tiny_jobs.finished_run(tiny_llama_folder, tmp_path_factory.mktemp("baselines"))
    with Journal.read(run / "journal.sqlite") as journal:
        return {row["name"]: row for row in journal.fact("comparison")["rows"]}


def test_every_allocator_that_is_cheap_is_a_row(rows):
    """Wanda's supernet has no errors; ecoflap needs two forwards for every block."""
    wanted = [name for name in ALLOCATORS if name not in ("uniform", "layer_error", "ecoflap")]
    assert list(rows)[:-2] == ["dense", "uniform", *wanted]


def test_each_meets_the_budget(rows):
    assert all(row["sparsity"] >= 0.5 for name, row in rows.items() if name != "dense")


def test_each_is_charged_with_what_it_asked_for(rows):
    tokens = {name: row["forward_tokens"] for name, row in rows.items()}
    assert {tokens[name] for name in ("uniform", "erk", "lamp", "alpha_pruning")} == {0}
    assert {tokens[name] for name in ("owl", "flap", "block_influence")} == {TOKENS}
    assert {tokens[name] for name in ("taylor", "lrp")} == {3 * TOKENS}
    # Besides, a process measures once what the activations of one sequence take, and may have to run the dense
    # model for KL first.
    assert 3 * TOKENS <= tokens["fisher"] <= 4 * TOKENS + 3 * LENGTH
    assert all(row["seconds"] > 0 for name, row in rows.items() if tokens[name])


def test_the_best_one_is_shown_again_next_to_last(rows):
    *others, best, searched = rows
    assert searched == "searched: evopress"
    name = best.removeprefix("best allocator: ")
    assert name in others
    assert rows[best]["objective"] == rows[name]["objective"]
