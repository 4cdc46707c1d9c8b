import time

from sparsearch.job.events import Announcer
from sparsearch.job.journal import Journal


def test_the_time_left_is_told_from_what_this_process_has_done_itself(monkeypatch, tmp_path):
    """40 of 84 were there when it began: no estimate from them, then 2 a second, and nothing left at the end."""
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    events = []
    with Journal.create_or_open(tmp_path / "journal.sqlite") as journal:
        announcer = Announcer(events.append, journal, tmp_path / "log.txt")
        for done in (40, 42, 64, 84):
            now = 1000 + (done - 40) / 2
            announcer.progress("build", done, 84)
        assert journal.fact("progress")["left"] == 0
    assert [event.left for event in events] == [None, 21.0, 10.0, 0.0]


def test_stages_have_their_own_pace(monkeypatch, tmp_path):
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    events = []
    with Journal.create_or_open(tmp_path / "journal.sqlite") as journal:
        announcer = Announcer(events.append, journal, tmp_path / "log.txt")
        for stage, done in (("build", 0), ("build", 2), ("search", 0), ("search", 1)):
            now += 4
            announcer.progress(stage, done, 3)
    assert [event.left for event in events] == [None, 2.0, None, 8.0]
