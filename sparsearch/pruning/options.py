"""Checks of the options of a pruner; each raises a ValueError that names option, value and range."""

from __future__ import annotations

import math
from typing import Any


def require_one_of(pruner: str, option: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise unless `value` is one of the words `allowed`."""
    if value not in allowed:
        raise ValueError(f"{pruner}: {option} is {value!r}; allowed: {', '.join(allowed)}")


def require_positive_integer(pruner: str, option: str, value: Any) -> None:
    """Raise unless `value` is an int of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{pruner}: {option} is {value!r}; allowed: an integer of 1 or more")


def require_number(pruner: str, option: str, value: Any, above: float) -> None:
    """Raise unless `value` is a finite number greater than `above`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < math.inf:
        raise ValueError(f"{pruner}: {option} is {value!r}; allowed: a number above {above:g}")
