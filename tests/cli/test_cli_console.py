import time

from sparsearch.cli.console import PLAIN_EVERY, progress_listener
from sparsearch.job.events import Event


def test_lines_estimate_the_time_left_from_what_this_run_has_done_itself(monkeypatch, capsys):
    """40 of 84 were there when it began: no estimate from them, then 2 a second, and none at the end."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress_listener() as listener:
        for done in (40, 41, 64, 84):
            now = 100 + (done - 40) / 2
            listener(Event("build", done, 84))
    assert PLAIN_EVERY <= 12
    assert capsys.readouterr().err.splitlines() == [
        "build: 40 of 84",
        "build: 64 of 84, about 10 s left",
        "build: 84 of 84",
    ]
