import time

from sparsearch.cli.console import PLAIN_EVERY, progress_listener
from sparsearch.job.events import Event


def test_lines_tell_the_time_left_and_are_not_printed_too_often(monkeypatch, capsys):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress_listener() as listener:
        for done, left in ((40, None), (41, 21.5), (64, 10.0), (84, 0.0)):
            now = 100 + (done - 40) / 2
            listener(Event("build", done, 84, left=left))
    assert PLAIN_EVERY <= 12
    assert capsys.readouterr().err.splitlines() == [
        "build: 40 of 84",
        "build: 64 of 84, about 10 s left",
        "build: 84 of 84",
    ]
