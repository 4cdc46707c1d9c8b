import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from sparsearch.errors import ResourceError
from sparsearch.job.journal import Journal, Totals
from sparsearch.space import Allocation

A, B = Allocation((0, 1, 18)), Allocation((5, 0, 2))

WRITER = """
import sys
import numpy as np
from sparsearch.job.journal import Journal
from sparsearch.space import Allocation

journal = Journal.create_or_open(sys.argv[1])
start = sum(1 for _ in journal.rows())
print("ready", flush=True)
for number in range(start, 100_000):
    values = np.random.default_rng(number).random(3)
    journal.append("search", "kl", Allocation.of([number % 7, number // 7]), [0, 4, 9], values, 48.0, 0.5)
    print(number, flush=True)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


def fill(journal, count, start=0):
    for number in range(start, start + count):
        journal.append("search", "kl", Allocation.of([number, 3]), [2, 0], np.array([number, 0.1]), 8.0, 0.25)


def test_what_is_appended_is_known_now_and_after_reopening(path):
    values = np.array([0.1, 1 / 3, -5e-324])
    with Journal.create_or_open(path) as journal:
        journal.append("search", "kl", A, [7, 0, 3], values, 30.0, 0.5)
        journal.append("search", "kl", A, np.array([1]), np.array([2.0]), 10.0, 0.5)
        journal.append("heldout", "kl", A, range(1), np.array([3.0]), 10.0, 0.5)
        expected = {7: 0.1, 0: 1 / 3, 3: -5e-324, 1: 2.0}
        assert journal.known("search", "kl", A) == expected
    with Journal.create_or_open(path) as journal:
        assert journal.known("search", "kl", A) == expected
        assert journal.known("heldout", "kl", A) == {0: 3.0}
        assert journal.known("search", "perplexity", A) == {}
        assert journal.known("search", "kl", B) == {}
        first, second, third = journal.rows()
    assert (first.id, second.id, third.id) == (1, 2, 3)
    assert (first.allocation, first.sequences, first.values) == (A, (7, 0, 3), tuple(values))
    assert third.panel == "heldout"


def test_times_do_not_count_in_the_comparison_of_rows(tmp_path):
    rows = []
    for name, seconds in (("a", 0.1), ("b", 9.0)):
        with Journal.create_or_open(tmp_path / name) as journal:
            journal.append("search", "kl", A, [0], np.array([1.5]), 4.0, seconds)
            rows.append(list(journal.rows()))
    assert rows[0] == rows[1]


def test_totals_are_per_panel(path):
    with Journal.create_or_open(path) as journal:
        assert journal.totals() == {}
        fill(journal, 4)
        journal.append("heldout", "kl", A, [0], np.array([1.0]), 5.0, 1.0)
        assert journal.totals() == {"search": Totals(4, 32.0, 1.0), "heldout": Totals(1, 5.0, 1.0)}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(path, bad):
    with Journal.create_or_open(path) as journal:
        with pytest.raises(
            ResourceError, match=r"objective kl is -?(nan|inf) on sequence 4 of panel search.*\[0, 1, 18\]"
        ):
            journal.append("search", "kl", A, [2, 4], np.array([1.0, bad]), 8.0, 0.1)
        assert journal.known("search", "kl", A) == {}
        assert list(journal.rows()) == []


def test_appending_what_does_not_fit_is_an_error(path):
    with Journal.create_or_open(path) as journal:
        journal.append("search", "kl", A, [2, 4], np.array([1.0, 2.0]), 8.0, 0.1)
        for sequences, values in (([1], [1.0, 2.0]), ([], []), ([3, 3], [1.0, 2.0]), ([4, 5], [1.0, 2.0])):
            with pytest.raises(ValueError):
                journal.append("search", "kl", A, sequences, np.array(values), 8.0, 0.1)
        assert len(list(journal.rows())) == 1


def test_facts(path):
    with Journal.create_or_open(path) as journal:
        assert journal.fact("a") is None
        assert journal.fact("a", 3) == 3
        journal.set_fact("a", {"x": [1, 0.1, None, "ü"]})
        journal.set_fact("a", {"x": [2, 0.1, None, "ü"]})
        with pytest.raises(ValueError):
            journal.set_fact("b", float("nan"))
    with Journal.read(path) as journal:
        assert journal.fact("a") == {"x": [2, 0.1, None, "ü"]}
        assert journal.fact("b") is None


def test_arrays_come_back_bit_for_bit(path):
    arrays = {
        "a": np.arange(12, dtype=np.float32).reshape(3, 4).T,
        "b": np.array(3, dtype=np.int64),
        "c": np.zeros((0, 5), dtype=bool),
        "d": np.array([np.nan, -0.0, np.inf]),
        "e": np.arange(4, dtype=">u2"),
    }
    with Journal.create_or_open(path) as journal:
        journal.store_arrays("key", {"old": np.ones(3)})
        journal.store_arrays("key", arrays)
    with Journal.read(path) as journal:
        found = journal.arrays("key")
        assert journal.arrays("other") is None
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_only_arrays_of_numbers_are_stored(path):
    with Journal.create_or_open(path) as journal:
        for arrays in ({}, {"a": np.array([{}])}, {"a": np.array(["x"])}):
            with pytest.raises(ValueError):
                journal.store_arrays("key", arrays)


def test_a_reader_sees_what_a_writer_has_committed(path):
    with Journal.create_or_open(path) as writer:
        fill(writer, 3)
        with Journal.read(path) as reader:
            assert reader.totals()["search"].evaluations == 3
            fill(writer, 2, start=3)
            writer.set_fact("progress", {"done": 5})
            assert reader.totals()["search"].evaluations == 5
            assert reader.fact("progress") == {"done": 5}
            with pytest.raises(ResourceError, match="readonly"):
                reader.set_fact("a", 1)


def test_damaged_and_foreign_files_are_refused_and_left_as_they_are(path, tmp_path):
    with pytest.raises(ResourceError, match="does not exist"):
        Journal.read(path)
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 40)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE evaluations (id INTEGER)")
    connection.close()
    for file in (path, other):
        before = file.read_bytes()
        for function in (Journal.read, Journal.create_or_open):
            with pytest.raises(ResourceError, match=rf"{file.name} is no journal"):
                function(file)
        assert file.read_bytes() == before


def test_a_newer_version_is_refused(path):
    Journal.create_or_open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(ResourceError, match=r"journal version 99, this sparsearch knows up to 1; update"):
        Journal.create_or_open(path)


def test_a_journal_with_a_trigger_is_refused(path):
    Journal.create_or_open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TRIGGER t AFTER INSERT ON evaluations BEGIN DELETE FROM facts; END")
    connection.close()
    with pytest.raises(ResourceError, match="other tables"):
        Journal.create_or_open(path)


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
def test_a_truncated_file_is_named(path, keep):
    with Journal.create_or_open(path) as journal:
        fill(journal, 2000)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ResourceError, match=r"journal\.sqlite"), Journal.read(path) as journal:
        list(journal.rows())
        journal.known("search", "kl", A)


def test_garbled_rows_are_named(path):
    with Journal.create_or_open(path) as journal:
        fill(journal, 2)
        journal.store_arrays("key", {"a": np.ones(3)})
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE evaluations SET vals = x'00' WHERE id = 2")
        connection.execute("UPDATE arrays SET dtype = '|O'")
    connection.close()
    with Journal.read(path) as journal:
        with pytest.raises(ResourceError, match="evaluation 2 is garbled"):
            list(journal.rows())
        with pytest.raises(ResourceError, match="garbled array"):
            journal.arrays("key")


def test_a_full_disk_leaves_the_journal_as_it_was(path):
    with Journal.create_or_open(path) as journal:
        fill(journal, 5)
        pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
        journal._connection.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(ResourceError, match="full"):
            fill(journal, 5000, start=5)
        rows = list(journal.rows())
        failed = Allocation.of([len(rows), 3])
        assert journal.known("search", "kl", failed) == {}
        journal._connection.execute(f"PRAGMA max_page_count={pages + 1000}")
        fill(journal, 1, start=len(rows))
        assert journal.known("search", "kl", failed) == {2: float(len(rows)), 0: 0.1}
        assert [row.id for row in journal.rows()] == list(range(1, len(rows) + 2))


def test_a_creator_that_was_killed_early_leaves_an_empty_file_that_opens(path):
    path.touch()
    with Journal.create_or_open(path) as journal:
        assert list(journal.rows()) == []


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(path):
    moments = random.Random(0)
    acknowledged = -1
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout.readline() == "ready\n"
            time.sleep(moments.uniform(0.0, 0.05))
            os.kill(child.pid, signal.SIGKILL)
            lines = [line for line in child.stdout.read().split("\n")[:-1] if line]
        acknowledged = int(lines[-1]) if lines else acknowledged
        with Journal.read(path) as journal:
            rows = list(journal.rows())
        assert acknowledged + 1 <= len(rows) <= acknowledged + 2
        for number, row in enumerate(rows):
            assert row.values == tuple(np.random.default_rng(number).random(3))
            assert row.allocation == Allocation.of([number % 7, number // 7])
        acknowledged = len(rows) - 1
    assert acknowledged > 0


def test_facts_are_json(path):
    with Journal.create_or_open(path) as journal:
        journal.set_fact("b", {"z": 1, "a": 2})
        text = journal._connection.execute("SELECT value FROM facts").fetchone()[0]
    assert text == json.dumps({"a": 2, "z": 1})
