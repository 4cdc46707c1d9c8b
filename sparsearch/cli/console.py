"""What people see: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sparsearch.job.events import Event, Listener

PLAIN_EVERY = 10.0
"""Seconds between two plain progress lines."""


def print_json(value: Any) -> None:
    """Machine-readable output."""
    print(json.dumps(value, indent=2, sort_keys=True))


@contextmanager
def progress_listener(quiet: bool = False) -> Iterator[Listener]:
    """A listener for a job's events. Progress goes to standard error, so that output stays clean for scripts."""
    console = Console(stderr=True, highlight=False)
    if quiet:
        yield lambda event: None
    elif console.is_terminal:
        with _bars(console) as bars:
            yield _BarListener(bars)
    else:
        yield _LineListener()


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("ETA"), TimeRemainingColumn(), TextColumn("{task.fields[text]}"), console=console,
    )  # fmt: skip


class _BarListener:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        if event.total == 0:
            self._bars.console.print(f"{event.stage}: {event.text}", markup=False)
            return
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bars.add_task(event.stage, total=event.total, text="")
        self._bars.update(self._tasks[event.stage], completed=event.done, total=event.total, text=event.text)


class _LineListener:
    def __init__(self) -> None:
        self._printed: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if event.total == 0:
            print(f"{event.stage}: {event.text}", file=sys.stderr, flush=True)
            return
        now = time.monotonic()
        if event.done < event.total and now - self._printed.get(event.stage, -PLAIN_EVERY) < PLAIN_EVERY:
            return
        self._printed[event.stage] = now
        eta = f", about {event.left:.0f} s left" if event.left else ""
        text = f", {event.text}" if event.text else ""
        print(f"{event.stage}: {event.done} of {event.total}{eta}{text}", file=sys.stderr, flush=True)
