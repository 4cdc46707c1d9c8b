"""Errors that a person reads. Each carries the exit code that the command line returns for it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SparsearchError(Exception):
    """Something a person can act on: what was found, what is allowed, what to do.

    The message is one line; `exit_code` is what the command line returns.
    """

    exit_code = 1


class ConfigError(SparsearchError):
    """A field, flag or file of the user's is wrong."""

    exit_code = 2


class ConflictError(SparsearchError):
    """The folder belongs to something else: another config, another supernet, another process."""

    exit_code = 3


class InfeasibleBudgetError(SparsearchError):
    """No allocation of the search space meets the budget."""

    exit_code = 4


class ResourceError(SparsearchError):
    """Disk, memory, a device, a file or a package is missing or damaged."""

    exit_code = 5


class Stopped(SparsearchError):
    """Stopped early and resumable: the time limit, or a signal (then `exit_code` is 128 + its number)."""

    exit_code = 75

    def __init__(self, message: str, exit_code: int = 75) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """`allowed: a, b (did you mean 'a'?)`: the tail of a message about an unknown name."""
    names = sorted(allowed)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    return f"allowed: {', '.join(names)}{hint}"
