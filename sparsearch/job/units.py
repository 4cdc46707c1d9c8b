"""Durations and sizes of memory as people write them."""

from __future__ import annotations

import math
import re

from sparsearch.errors import ConfigError
from sparsearch.space.budget import UNITS

DURATION = re.compile(r"(?:([\d.]+)d)?(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s)?")
SECONDS = (86400.0, 3600.0, 60.0, 1.0)
MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Z]*)")


def parse_duration(value: float | str, field: str) -> float:
    """`"90s"`, `"15m"`, `"2h"`, `"1h30m"`, `"1d"`, or a number of seconds, as seconds.

    Args:
        value: what was given.
        field: the field's name, which starts the message.

    Raises:
        ConfigError: not a duration, or not positive.
    """
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = _with_units(str(value))
    if not 0 < seconds < math.inf:
        raise ConfigError(f"{field}: found {value!r}; allowed: 90s, 15m, 2h, 1h30m, 1d or a number of seconds above 0")
    return seconds


def _with_units(text: str) -> float:
    match = DURATION.fullmatch(text.strip().lower())
    if match is None or not any(match.groups()):
        return math.nan
    try:
        return sum(float(part) * unit for part, unit in zip(match.groups(), SECONDS, strict=True) if part)
    except ValueError:
        return math.nan


def parse_memory(value: float | str, field: str) -> int:
    """`"512MiB"`, `"2GB"`, or a number of bytes, as whole bytes.

    Args:
        value: what was given.
        field: the field's name, which starts the message.

    Raises:
        ConfigError: not a size, or less than a byte.
    """
    match = MEMORY.fullmatch(str(value).strip().upper())
    size = float(match[1]) * UNITS.get(match[2], math.nan) if match and not isinstance(value, bool) else math.nan
    if not 1 <= size < 2**63:
        raise ConfigError(f"{field}: found {value!r}; allowed: 512MiB, 2GB or a number of bytes above 0")
    return int(size)
