"""Levels: the compression choices of a site, on an absolute grid."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from sparsearch.errors import ConfigError

DENSE_LABEL = "dense"


@dataclass(frozen=True, slots=True)
class Level:
    """One compression choice.

    Attributes:
        label: its stable name in files and messages: `dense`, `0.55`, `2:4`.
        sparsity: nominal fraction of the site's weights that are gone.
        group: 0 for unstructured levels; M for `N:M` (N of every M consecutive inputs stay).
    """

    label: str
    sparsity: float
    group: int = 0

    @property
    def is_dense(self) -> bool:
        """Whether this is level 0, the site as it came."""
        return self.sparsity == 0

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a weight of `shape` `[out, in]` can take this level (N:M needs M to divide `in`)."""
        return self.group == 0 or shape[-1] % self.group == 0

    def removed(self, shape: tuple[int, ...]) -> int:
        """Weights removed from a weight of `shape` `[out, in]`: `ceil(sparsity * out * in)`.

        Rounding up makes a uniform allocation at level s meet a sparsity budget of s.
        """
        size = math.prod(shape)
        return math.ceil(self.sparsity * size - 1e-12 * size)


DENSE = Level(DENSE_LABEL, 0.0)


def parse_level(value: float | str) -> Level:
    """`0.55`, `"0.55"`, `"2:4"` or `"dense"` as a level.

    Raises:
        ConfigError: neither a fraction in [0, 1] nor `N:M` with 0 < N < M.
    """
    text = str(value).strip()
    if text == DENSE_LABEL:
        return DENSE
    if match := re.fullmatch(r"(\d+):(\d+)", text):
        keep, group = int(match[1]), int(match[2])
        if 0 < keep < group:
            return Level(f"{keep}:{group}", 1 - keep / group, group)
    elif re.fullmatch(r"[0-9.]+(e-?\d+)?", text) and text.count(".") <= 1 and text.strip("."):
        sparsity = float(text)
        if sparsity == 0:
            return DENSE
        if 0 < sparsity <= 1:
            return Level(f"{sparsity:.10g}", sparsity)
    # YAML reads 2:4 without quotes as the number 124, two hours and four minutes in minutes.
    quotes = "; write N:M in quotes" if isinstance(value, int) else ""
    raise ConfigError(
        f'levels: {value!r} is no level; allowed: a sparsity from 0 to 1 (0.55), N:M with N < M ("2:4"), '
        f"or dense{quotes}"
    )


def level_grid(values: list[float | str]) -> tuple[Level, ...]:
    """Levels from dense to sparsest; the dense one is added when it is not listed.

    Raises:
        ConfigError: a value is no level, or two are the same.
    """
    levels = [level for level in map(parse_level, values) if not level.is_dense]
    labels = [level.label for level in levels]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"levels: {label} is listed twice; list each level once")
    return (DENSE, *sorted(levels, key=lambda level: (level.sparsity, level.label)))
