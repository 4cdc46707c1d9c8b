import time

import pytest

from sparsearch.job.events import Announcer
from sparsearch.job.journal import Journal


@pytest.fixture
def announced(monkeypatch, tmp_path):
    """(seconds, stage, done, total) of each step -> what the listener was told to be left, and the fact at the end."""

    def tell(steps):
        events = []
        with Journal.create_or_open(tmp_path / "journal.sqlite") as journal:
            announcer = Announcer(events.append, journal, tmp_path / "log.txt")
            for now, *step in steps:
                monkeypatch.setattr(time, "monotonic", lambda now=now: now)
                announcer.progress(*step)
            return [event.left for event in events], journal.fact("progress")

    return tell


def test_the_time_left_is_told_from_what_this_process_has_done_itself(announced):
    """40 of 84 were there when it began: no estimate from them, then 2 a second, and nothing left at the end."""
    left, fact = announced([(1000 + (done - 40) / 2, "build", done, 84) for done in (40, 42, 64, 84)])
    assert left == [None, 21.0, 10.0, 0.0]
    assert fact["left"] == 0


def test_stages_have_their_own_pace(announced):
    left, _ = announced([(4, "build", 0, 3), (8, "build", 2, 3), (12, "search", 0, 3), (16, "search", 1, 3)])
    assert left == [None, 2.0, None, 8.0]


def test_a_stage_that_did_more_than_it_planned_has_nothing_left(announced):
    left, _ = announced([(0, "search", 0, 3), (8, "search", 4, 3)])
    assert left == [None, 0.0]
