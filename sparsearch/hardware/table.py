"""The file of measured times: written after every shape, refused on another machine."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.files import read_json, write_json
from sparsearch.hardware.cells import Cell

SCHEMA = 1
AGAIN = "measure again into another file (sparsearch measure --out FILE)"


@dataclass(frozen=True, slots=True)
class Table:
    """Measured times of one machine.

    Attributes:
        fingerprint: `machine_fingerprint` of where it was measured.
        rounds: times that every product was timed.
        cells: the measurements, finished shapes only.
    """

    fingerprint: Mapping[str, str | int]
    rounds: int
    cells: tuple[Cell, ...] = ()

    @property
    def dtype(self) -> str:
        """Of the weights, by torch's name."""
        return str(self.fingerprint["dtype"])

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Measured shapes, each once, in ascending order."""
        return sorted({cell.shape for cell in self.cells})

    def tokens_of(self, shape: tuple[int, int]) -> list[int]:
        """Token counts that were measured with `shape`, in ascending order."""
        return sorted({cell.tokens for cell in self.cells if cell.shape == shape})

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the version of this form."""
        return {
            "schema": SCHEMA,
            "fingerprint": dict(self.fingerprint),
            "rounds": self.rounds,
            "cells": [dataclasses.asdict(cell) | {"shape": list(cell.shape)} for cell in self.cells],
        }


def write_table(path: Path, table: Table) -> None:
    """Atomic write."""
    write_json(path, table.to_dict())


def read_table(path: Path) -> Table:
    """The table in `path`.

    Raises:
        ResourceError: it is missing or damaged, or another version wrote it.
    """
    found = read_json(path)
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise ResourceError(f"{path}: schema {schema!r}; this version reads {SCHEMA}; {AGAIN}")
    try:
        cells = tuple(_cell(row) for row in found["cells"])
        return Table({str(key): _plain(value) for key, value in found["fingerprint"].items()}, found["rounds"], cells)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResourceError(f"{path} is damaged ({type(error).__name__}: {error}); {AGAIN}") from error


def check_same_machine(path: Path, table: Table, fingerprint: Mapping[str, str | int], rounds: int) -> None:
    """Refuses to go on with a table that was measured elsewhere or otherwise.

    Raises:
        ConfigError: which entries differ, and what to do.
    """
    found, wanted = dict(table.fingerprint) | {"rounds": table.rounds}, dict(fingerprint) | {"rounds": rounds}
    differing = [name for name in sorted(found | wanted) if found.get(name) != wanted.get(name)]
    if differing:
        texts = (f"{name} is {found.get(name)!r} there and {wanted.get(name)!r} now" for name in differing)
        raise ConfigError(
            f"--out: {path} was measured under other conditions: {'; '.join(texts)}; "
            "choose another file, or measure as before"
        )


def _cell(row: Mapping[str, Any]) -> Cell:
    out, width = map(int, row["shape"])
    cell = Cell(**{**row, "shape": (out, width)})
    numbers = (cell.density, cell.seconds, cell.ratio, cell.dense_seconds, cell.spread, cell.drift)
    if not all(isinstance(number, int | float) and math.isfinite(number) and number >= 0 for number in numbers):
        raise ValueError(f"a cell of {cell.backend!r} has a time or density that is no number from 0")
    if not all(isinstance(text, str) for text in (cell.backend, cell.dtype, cell.label)):
        raise ValueError("a cell's backend, dtype or label is no text")
    if not all(isinstance(number, int) for number in (cell.tokens, cell.bytes)):
        raise ValueError("a cell's tokens or bytes are no whole number")
    return cell


def _plain(value: object) -> str | int:
    if not isinstance(value, str | int):
        raise ValueError(f"the fingerprint has {value!r}; a text or a whole number is expected")
    return value
