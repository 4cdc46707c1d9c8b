"""Stopping a job between two evaluations: a signal, or its time limit."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from sparsearch.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)
RESUME = "everything up to here is saved: run the same command again to go on"


class StopRequest:
    """Context manager around a job's loop, which calls `check` wherever it may stop.

    The first SIGINT or SIGTERM is noted, and `check` raises; a Ctrl-C after that raises KeyboardInterrupt at
    once. Outside the main thread (a notebook's worker) signals are left alone and only the time limit counts.

    Args:
        time_limit: seconds from entering, or None.
    """

    def __init__(self, time_limit: float | None = None) -> None:
        self.time_limit = time_limit
        self._signal: signal.Signals | None = None
        self._started = time.monotonic()
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            # None stands for a handler that was not installed from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous = {}

    @property
    def requested(self) -> bool:
        """Whether `check` would raise."""
        return self._signal is not None or self._out_of_time

    def check(self, progressed: bool = True) -> None:
        """Returns, or raises when a stop was asked for.

        Args:
            progressed: whether this process has done anything new. Out of time it goes on until it has, or a
                limit shorter than going through the journal would end every run at the same point.

        Raises:
            Stopped: exit code 128 + the signal's number, or 75 for the time limit.
        """
        if self._signal is not None:
            self._stop(f"stopped by {self._signal.name}", 128 + self._signal)
        if progressed and self._out_of_time:
            self._stop(f"stopped at the time limit of {self.time_limit:g} s", 75)

    @property
    def _out_of_time(self) -> bool:
        return self.time_limit is not None and time.monotonic() - self._started >= self.time_limit

    def _stop(self, why: str, exit_code: int) -> NoReturn:
        raise Stopped(f"{why}; {RESUME}", exit_code)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = self._signal or signal.Signals(number)
