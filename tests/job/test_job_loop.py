import contextlib
import itertools
import sqlite3

import numpy as np
import pytest
import tiny_jobs

from sparsearch.errors import Stopped
from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.job.config import parse_config
from sparsearch.job.journal import Journal
from sparsearch.job.loop import JournaledEvaluations, SearchLoop
from sparsearch.job.prepare import prepare
from sparsearch.space import Allocation
from sparsearch.space.statistics import STATISTICS
from sparsearch.supernet import Switcher, build_supernet


class Killed(Exception):
    """Stands for the end of the process right after a row was committed."""


class Job:
    """A prepared job with its supernet; every call works like a fresh process."""

    def __init__(self, folder, checkpoint, **changes):
        self.prepared = prepare(parse_config(tiny_jobs.mapping(folder, checkpoint, **changes)))
        self.supernet = build_supernet(self.prepared.model, self.prepared.build_plan, folder / "supernet")
        self.switcher = Switcher(self.prepared.model, self.supernet)

    def evaluations(self, journal, panel="search", check=lambda: None, batch_size=12):
        prepared = self.prepared
        objectives = prepared.objectives if panel == "heldout" else prepared.objectives[:1]
        evaluator = Evaluator(prepared.model, self.switcher, getattr(prepared.panels, panel), objectives, batch_size)
        return JournaledEvaluations(evaluator, journal, panel, check)

    def search(self, journal, check=lambda: None, report=lambda progress, tokens: None):
        """Everything that a job evaluates: the search, and its best and the dense model on held-out text."""
        evaluations = self.evaluations(journal, check=check)
        loop = SearchLoop(self.prepared.searcher(self.supernet), evaluations, report)
        heldout = self.evaluations(journal, "heldout")
        try:
            best = loop.run()
            heldout.all_values((self.prepared.space.dense(), best), tuple(range(8)))
        finally:
            self.switcher.restore()
        return loop


@pytest.fixture(scope="module")
def job(tmp_path_factory, tiny_llama_folder):
    return Job(tmp_path_factory.mktemp("loop"), tiny_llama_folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, job):
    """Loop and rows of a run that nothing has stopped."""
    with Journal.create_or_open(tmp_path_factory.mktemp("whole") / "journal.sqlite") as journal:
        return job.search(journal), list(journal.rows())


def killed_after(journal, count):
    """Has the process of `journal` end right after its `count`-th row or set of arrays."""
    left = [count]

    def counted(store):
        def then_killed(*content):
            store(*content)
            left[0] -= 1
            if not left[0]:
                raise Killed

        return then_killed

    journal.append, journal.store_arrays = counted(journal.append), counted(journal.store_arrays)


def contents(path):
    """Rows, and arrays but for what they cost."""
    with Journal.read(path) as journal:
        rows = list(journal.rows())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        query = "SELECT key, name, data FROM arrays WHERE name != 'spent' ORDER BY key, name"
        return rows, connection.execute(query).fetchall()


@pytest.mark.parametrize("count", [1, 4])
def test_killed_after_every_few_rows_it_ends_with_the_same_rows_and_bits(tmp_path, job, whole, count):
    attempts = 0
    while True:
        attempts += 1
        with Journal.create_or_open(tmp_path / "journal.sqlite") as journal:
            killed_after(journal, count)
            try:
                loop = job.search(journal)
                break
            except Killed:
                continue
    with Journal.read(tmp_path / "journal.sqlite") as journal:
        assert list(journal.rows()) == whole[1]
    assert attempts == len(whole[1]) // count + 1
    assert loop.searcher.best == whole[0].searcher.best
    assert loop.milestones == whole[0].milestones
    assert loop.tokens == whole[0].tokens


def test_a_searcher_with_sensitivities_is_resumed_as_exactly(tmp_path, tiny_llama_folder):
    searcher = {"name": "quadratic", "start": 5, "sequences": 3, "most": 12, "patience": 2, "redraws": 1}
    job = Job(tmp_path, tiny_llama_folder, searcher=searcher)
    with Journal.create_or_open(tmp_path / "whole") as journal:
        best = job.search(journal).searcher.best
    for _ in range(1000):
        with Journal.create_or_open(tmp_path / "killed") as journal:
            killed_after(journal, 1)
            with contextlib.suppress(Killed):
                assert job.search(journal).searcher.best == best
                break
    rows, arrays = contents(tmp_path / "whole")
    assert len(arrays) >= 2
    assert contents(tmp_path / "killed") == (rows, arrays)


def test_searchers_with_statistics_are_resumed_as_exactly(tmp_path, tiny_llama_folder):
    """Of all kinds, as the best allocator asks for every statistic in turn."""
    job = Job(tmp_path, tiny_llama_folder, searcher={"name": "best_allocator", "sequences": 4})
    with Journal.create_or_open(tmp_path / "whole") as journal:
        whole = job.search(journal)
    assert whole.statistics.forward_tokens > 0
    assert whole.tokens >= whole.statistics.forward_tokens
    for _ in range(1000):
        with Journal.create_or_open(tmp_path / "killed") as journal:
            killed_after(journal, 7)
            with contextlib.suppress(Killed):
                again = job.search(journal)
                break
    assert again.searcher.best == whole.searcher.best
    assert again.tokens == whole.tokens
    rows, arrays = contents(tmp_path / "whole")
    assert len({key for key, *_ in arrays}) == len(STATISTICS) + 1, "one set for the Fisher start"
    assert contents(tmp_path / "killed") == (rows, arrays)


def test_the_order_of_the_rows_does_not_depend_on_what_an_earlier_run_answered(tmp_path, job):
    one, two, three = (Allocation((level,) * len(job.prepared.space)) for level in (1, 2, 3))
    orders = []
    for name, kills in (("whole", 0), ("killed", 3)):
        for count in [1] * kills + [0]:
            with Journal.create_or_open(tmp_path / name) as journal:
                killed_after(journal, count)
                evaluations = job.evaluations(journal)
                with contextlib.suppress(Killed):
                    evaluations.values((two,), (0,))
                    evaluations.values((one, two, three), (0, 1))
        with Journal.read(tmp_path / name) as journal:
            orders.append([(row.allocation, row.sequences) for row in journal.rows()])
    assert len(orders[0]) == 4
    assert orders[1] == orders[0]


def test_values_do_not_depend_on_what_the_process_has_asked_before(tmp_path, job):
    """The last bits of a forward depend on the sequences that share it, so the dense model's must be fixed."""
    one, two = (Allocation((level,) * len(job.prepared.space)) for level in (1, 2))
    everything = tuple(range(12))
    with Journal.create_or_open(tmp_path / "one by one") as journal:
        evaluations = job.evaluations(journal)
        for sequence in everything:
            evaluations.values((one,), (sequence,))
        asked_before = evaluations.values((two,), everything)
    with Journal.create_or_open(tmp_path / "fresh") as journal:
        np.testing.assert_array_equal(job.evaluations(journal).values((two,), everything), asked_before)


def test_a_stop_comes_after_the_row_and_loses_nothing(tmp_path, job, whole):
    seen = []

    def check():
        seen.append(None)
        if len(seen) == 9:
            raise Stopped("enough")

    with Journal.create_or_open(tmp_path / "journal.sqlite") as journal:
        with pytest.raises(Stopped):
            job.search(journal, check=check)
        assert list(journal.rows()) == whole[1][:9]
        job.search(journal)
        assert list(journal.rows()) == whole[1]


def test_going_through_a_finished_journal_computes_nothing(tmp_path, job, whole):
    with Journal.create_or_open(tmp_path / "journal.sqlite") as journal:
        assert job.search(journal).evaluations.computed == len([row for row in whole[1] if row.panel == "search"])
        again = job.search(journal)
        assert again.evaluations.computed == 0
        assert again.tokens == whole[0].tokens
        assert list(journal.rows()) == whole[1]


def test_values_are_those_of_an_evaluator_without_a_journal(tmp_path, job):
    space = job.prepared.space
    one, two = space.sparsest(), Allocation((1,) * len(space))
    with Journal.create_or_open(tmp_path / "journal.sqlite") as journal:
        evaluations = job.evaluations(journal, "heldout")
        tables = evaluations.all_values((one, two, one), (3, 1))
        assert evaluations.computed == 2
        direct = {
            evaluation.index: evaluation.values for evaluation in evaluations.evaluator.evaluate([one, two], (3, 1))
        }
        for name, table in tables.items():
            assert table.shape == (3, 2)
            np.testing.assert_array_equal(table, [direct[0][name], direct[1][name], direct[0][name]])
        np.testing.assert_array_equal(evaluations.values((two,), (1,)), tables["kl"][1:2, 1:])
        # Only what is not known yet is computed, and the columns follow the request.
        wider = evaluations.all_values((two,), (1, 5, 3))
        assert [row.sequences for row in journal.rows() if row.allocation == two] == [(3, 1), (3, 1), (5,), (5,)]
        np.testing.assert_array_equal(wider["kl"][0, [2, 0]], tables["kl"][1])


def test_all_objectives_come_from_one_forward_that_is_charged_once(tmp_path, job):
    allocation = job.prepared.space.sparsest()
    with Journal.create_or_open(tmp_path / "journal.sqlite") as journal:
        evaluations = job.evaluations(journal, "heldout")
        evaluations.all_values((allocation,), tuple(range(8)))
        assert [row.objective for row in journal.rows()] == ["kl", "perplexity"]
        assert journal.totals()["heldout"].forward_tokens == pytest.approx(8 * 31)


def test_progress_is_reported_after_every_request_with_tokens_that_grow(tmp_path, job, whole):
    reports = []
    with Journal.create_or_open(tmp_path / "journal.sqlite") as journal:
        job.search(journal, report=lambda progress, tokens: reports.append((progress.done, progress.total, tokens)))
    done, totals, tokens = zip(*reports, strict=True)
    assert list(done) == sorted(done)
    assert (done[-1], set(totals)) == (3, {3})
    assert list(tokens) == sorted(tokens)
    evaluated = sum(len(row.sequences) for row in whole[1] if row.panel == "search")
    assert tokens[-1] == evaluated * 31


def test_milestones_are_the_incumbents_and_end_with_the_best(whole):
    loop, _ = whole
    allocations = [milestone.allocation for milestone in loop.milestones]
    assert all(one != other for one, other in itertools.pairwise(allocations))
    assert allocations[-1] == loop.searcher.best
    assert [milestone.tokens for milestone in loop.milestones] == sorted(m.tokens for m in loop.milestones)
