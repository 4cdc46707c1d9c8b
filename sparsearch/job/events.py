"""What a running job tells whoever watches it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sparsearch.files import disk_errors
from sparsearch.job.journal import Journal

STAGES = ("build", "search", "compare", "report", "export", "verify")


@dataclass(frozen=True, slots=True)
class Event:
    """Progress of a stage, or a line of text (then `text` alone counts).

    Attributes:
        left: seconds until the stage ends, at the pace of what this process has done of it; None before it has.
    """

    stage: str
    done: int = 0
    total: int = 0
    text: str = ""
    left: float | None = None


Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """Ignores everything."""


@dataclass(eq=False)
class Announcer:
    """Passes events on to a listener, the log file and, for `status`, the journal.

    Attributes:
        every: seconds between two notes in the journal; the last step of a stage is always noted.
    """

    listener: Listener
    journal: Journal
    log: Path
    every: float = 1.0
    _began: dict[str, tuple[float, int]] = field(default_factory=dict)
    _noted: float = 0.0

    def progress(self, stage: str, done: int, total: int, text: str = "") -> None:
        """`done` of `total` steps of a stage."""
        now = time.monotonic()
        begins = stage not in self._began
        left = self._left(stage, done, total, now)
        self.listener(Event(stage, done, total, text, left))
        if begins or done >= total or now - self._noted >= self.every:
            self._noted = now
            fact = {"stage": stage, "done": done, "total": total, "left": left, "updated": time.time(), "text": text}
            self.journal.set_fact("progress", fact)

    def _left(self, stage: str, done: int, total: int, now: float) -> float | None:
        """What was done at the first event took a time that nobody knows: an earlier process may have done it."""
        began, already = self._began.setdefault(stage, (now, done))
        return (now - began) / (done - already) * max(total - done, 0) if done > already else None

    def line(self, stage: str, text: str) -> None:
        """A line for people."""
        self.listener(Event(stage, text=text))
        with disk_errors(self.log), open(self.log, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {stage}: {text}\n")
