"""Checks of the options that a job file gives a searcher."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sparsearch.errors import ConfigError, did_you_mean


def positive_integer(option: str, value: Any) -> int:
    """`value` as a positive integer.

    Raises:
        ConfigError: it is something else; the message names `searcher.OPTION`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"searcher.{option}: {value!r} is not allowed; give a positive integer")
    return value


def positive_integers(option: str, values: Any) -> tuple[int, ...]:
    """`values`, one integer or a list of them, as a tuple of positive integers.

    Raises:
        ConfigError: it is empty, or something in it is no positive integer.
    """
    listed = values if isinstance(values, list | tuple) else [values]
    if not listed:
        raise ConfigError(f"searcher.{option}: the list is empty; give at least one positive integer")
    return tuple(positive_integer(option, value) for value in listed)


def one_of(option: str, value: Any, allowed: Sequence[str]) -> str:
    """`value` as one of the names `allowed`.

    Raises:
        ConfigError: it is something else; the message names `searcher.OPTION`.
    """
    if value not in allowed:
        raise ConfigError(f"searcher.{option}: {value!r} is no choice; {did_you_mean(str(value), allowed)}")
    return str(value)


def number(option: str, value: Any, least: float, most: float = math.inf) -> float:
    """`value` as a number from `least` to `most`.

    Raises:
        ConfigError: it is something else; the message names `searcher.OPTION`.
    """
    fits = not isinstance(value, bool) and isinstance(value, int | float) and least <= value <= most
    if not fits or math.isinf(value):
        allowed = f"of at least {least:g}" if math.isinf(most) else f"from {least:g} to {most:g}"
        raise ConfigError(f"searcher.{option}: {value!r} is not allowed; give a number {allowed}")
    return float(value)
