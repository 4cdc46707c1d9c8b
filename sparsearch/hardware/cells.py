"""Measured times of kernels, and what lies between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sparsearch.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement: `backend` multiplying `tokens` tokens by a weight `shape` `(out, in)` of `density`."""

    backend: str
    shape: tuple[int, int]
    tokens: int
    density: float
    seconds: float


def best_seconds(cells: Iterable[Cell], shape: tuple[int, int], tokens: int, density: float) -> tuple[float, str]:
    """Time in seconds and name of the fastest backend, linear in density between that backend's own cells.

    Never across shapes or token counts, never beyond a backend's measured densities. `dense` costs its
    smallest measured time at every density. Ties go to the first name.

    Raises:
        ConfigError: no backend was measured there.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for cell in cells:
        if (cell.shape, cell.tokens) == (shape, tokens):
            points.setdefault(cell.backend, []).append((cell.density, cell.seconds))
    found = []
    for name, line in sorted(points.items()):
        densities, seconds = np.array(sorted(line)).T
        if name == "dense":
            found.append((float(seconds.min()), name))
        elif densities[0] <= density <= densities[-1]:
            found.append((float(np.interp(density, densities, seconds)), name))
    if not found:
        raise ConfigError(
            f"hardware: shape {shape} at {tokens} tokens and density {density:g} was not measured; "
            "measure it, nothing is extrapolated"
        )
    return min(found)
