"""Measured times of kernels, and what lies between them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from sparsearch.errors import ConfigError

DENSE_BACKENDS = ("dense", "cuda_dense")
"""What every time is compared with, one a device: torch's own product, whose time no zero changes."""

NOISY = 0.1
"""Largest spread and drift of a cell that is not measured again."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement: `backend` multiplying `tokens` tokens by a weight `shape` `(out, in)` of `density`.

    Attributes:
        backend: its name.
        shape: `(out, in)` of the weight.
        tokens: rows of the input.
        density: fraction of the weights that are not zero.
        seconds: of one product, median over rounds, as observed.
        dtype: of the weight and the input, by torch's name.
        label: of the level whose mask the weight had.
        ratio: median over rounds of its time in units of dense's in the same round.
        dense_seconds: median time of dense in the same rounds.
        spread: interquartile range over median, of its times or its ratios, whichever is larger.
        drift: how far `dense_seconds` is from dense's median over all levels of the shape and token count, in units
            of that. A busy machine delays threaded kernels by whole time slices, evenly enough to leave no spread.
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
    dense_seconds: float = 0.0
    spread: float = 0.0
    drift: float = 0.0
    bytes: int = 0

    @property
    def noisy(self) -> bool:
        """Whether the measurement should not be relied on."""
        return max(self.spread, self.drift) > NOISY


def best_seconds(
    cells: Iterable[Cell],
    shape: tuple[int, int],
    tokens: int,
    density: float,
    *,
    dtype: str = "float32",
    label: str = "",
    among: Collection[str] | None = None,
) -> tuple[float, str]:
    """Time in seconds and name of the fastest backend, linear in density between that backend's own cells.

    Never across shapes, token counts or types, never beyond a backend's measured densities. Cells of an N:M
    level count for that level (`label`) alone, and not for others of the same density. Dense costs its smallest
    measured time at every density. Ties go to the first name.

    Args:
        among: names of the backends that compete; None for all.

    Raises:
        ConfigError: no backend was measured there.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    found = []
    for cell in cells:
        if (cell.shape, cell.tokens, cell.dtype) != (shape, tokens, dtype) or not (
            among is None or cell.backend in among
        ):
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


def stored_bytes(
    cells: Iterable[Cell], backend: str, shape: tuple[int, int], density: float, *, label: str = ""
) -> float:
    """Size of a weight as `backend` packs it, linear in density between its cells.

    Args:
        cells: with some of the backend at this shape; their token counts do not matter.
        label: of the level; the cells of an N:M level count for that level alone.
    """
    own = [cell for cell in cells if (cell.backend, cell.shape) == (backend, shape)]
    exact = [cell.bytes for cell in own if cell.label == label and ":" in label]
    if exact:
        return float(exact[0])
    densities, sizes = np.array(sorted((cell.density, cell.bytes) for cell in own if ":" not in cell.label)).T
    return float(np.interp(density, densities, sizes))
