"""Measured times of kernels, and what lies between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sparsearch.errors import ConfigError

DENSE_BACKENDS = ("dense", "cuda_dense")
"""What every time is compared with, one a device: torch's own product, whose time no zero changes."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement: `backend` multiplying `tokens` tokens by a weight `shape` `(out, in)` of `density`.

    Attributes:
        backend: its name.
        shape: `(out, in)` of the weight.
        tokens: rows of the input.
        density: fraction of the weights that are not zero.
        seconds: of one product: `ratio` times the median time of dense.
        dtype: of the weight and the input, by torch's name.
        label: of the level whose mask the weight had.
        ratio: median over rounds of its time in units of dense's in the same round.
        spread: interquartile range of its times, in units of their median.
        bytes: of the packed weight.
    """

    backend: str
    shape: tuple[int, int]
    tokens: int
    density: float
    seconds: float
    dtype: str = "float32"
    label: str = ""
    ratio: float = 1.0
    spread: float = 0.0
    bytes: int = 0


def best_seconds(
    cells: Iterable[Cell],
    shape: tuple[int, int],
    tokens: int,
    density: float,
    *,
    dtype: str = "float32",
    label: str = "",
) -> tuple[float, str]:
    """Time in seconds and name of the fastest backend, linear in density between that backend's own cells.

    Never across shapes, token counts or types, never beyond a backend's measured densities. Cells of an N:M
    level count for that level (`label`) alone, and not for others of the same density. Dense costs its smallest
    measured time at every density. Ties go to the first name.

    Raises:
        ConfigError: no backend was measured there.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    found = []
    for cell in cells:
        if (cell.shape, cell.tokens, cell.dtype) != (shape, tokens, dtype):
            continue
        if ":" not in cell.label:
            points.setdefault(cell.backend, []).append((cell.density, cell.seconds))
        elif cell.label == label:
            found.append((cell.seconds, cell.backend))
    for name, line in sorted(points.items()):
        densities, seconds = np.array(sorted(line)).T
        if name in DENSE_BACKENDS:
            found.append((float(seconds.min()), name))
        elif densities[0] <= density <= densities[-1]:
            found.append((float(np.interp(density, densities, seconds)), name))
    if not found:
        raise ConfigError(
            f"hardware: shape {shape} at {tokens} tokens and density {density:g} was not measured in {dtype}; "
            "measure it, nothing is extrapolated"
        )
    return min(found)
