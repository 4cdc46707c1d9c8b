"""One writer per run folder."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from sparsearch.errors import ConflictError
from sparsearch.files import disk_errors, write_json

LOCK_NAME = "run.lock"
HOLDER_NAME = "holder.json"
PATIENCE = 0.5
"""Seconds to try for: `is_locked` in another process holds the lock for a moment."""
PROBE = 0.1
"""Seconds after which `is_locked` takes a lock for a run's and not for another probe's."""


class RunLock:
    """Context manager that owns a run folder, created when it is missing.

    The operating system releases the lock when the process ends, kill -9 included.

    Raises:
        ConflictError: another process owns the folder; names it.
        ResourceError: the folder cannot be written.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)
        self._lock = FileLock(self.run_dir / LOCK_NAME)

    def __enter__(self) -> Self:
        with disk_errors(self.run_dir):
            self.run_dir.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=PATIENCE)
            except Timeout:
                raise ConflictError(
                    f"folder {self.run_dir} is in use by {_holder(self.run_dir)}; "
                    "wait for it to end or choose another folder (run.dir, supernet)"
                ) from None
        try:
            # Beside the lock file, not in it: the file under a lock is the lock package's own.
            write_json(self.run_dir / HOLDER_NAME, {"pid": os.getpid(), "host": socket.gethostname()})
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            (self.run_dir / HOLDER_NAME).unlink(missing_ok=True)
        finally:
            self._lock.release()


def is_locked(run_dir: str | Path) -> bool:
    """Whether some process owns the run folder now. Changes nothing."""
    path = Path(run_dir) / LOCK_NAME
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=PROBE, poll_interval=0.02):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that we may not write has no writer of ours
        return False


def _holder(run_dir: Path) -> str:
    try:
        holder = json.loads((run_dir / HOLDER_NAME).read_text(encoding="utf-8"))
        return f"process {int(holder['pid'])} on {str(holder['host'])[:64]}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
