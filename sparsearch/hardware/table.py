"""The file of measured times: written after every shape, refused on another machine."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.files import read_json, write_json
from sparsearch.hardware.cells import Cell
from sparsearch.hardware.fingerprint import differences
from sparsearch.hardware.model_runs import ModelRuns, Run
from sparsearch.space.level import parse_level

SCHEMA = 2
AGAIN = "measure again into another file (sparsearch measure --out FILE)"


@dataclass(frozen=True, slots=True)
class Table:
    """Measured times of one machine.

    Attributes:
        fingerprint: `machine_fingerprint` of where it was measured.
        rounds: times that every product was timed.
        cells: the measurements, finished shapes only.
        models: whole models, finished token counts only; none where shapes alone were measured.
    """

    fingerprint: Mapping[str, str | int]
    rounds: int
    cells: tuple[Cell, ...] = ()
    models: tuple[ModelRuns, ...] = ()

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

    def runs_of(self, architecture: str) -> ModelRuns | None:
        """What was measured of the models of one architecture."""
        return next((runs for runs in self.models if runs.architecture == architecture), None)

    def with_model(self, runs: ModelRuns) -> Table:
        """The same with `runs` in place of those of their architecture."""
        others = (each for each in self.models if each.architecture != runs.architecture)
        return dataclasses.replace(self, models=(*others, runs))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the version of this form."""
        return {
            "schema": SCHEMA,
            "fingerprint": dict(self.fingerprint),
            "rounds": self.rounds,
            "cells": [dataclasses.asdict(cell) | {"shape": list(cell.shape)} for cell in self.cells],
            "models": [dataclasses.asdict(runs) for runs in self.models],
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
        fingerprint = {str(key): _plain(value) for key, value in found["fingerprint"].items()}
        _check_type(fingerprint["dtype"])
        return Table(fingerprint, found["rounds"], cells, tuple(_model(row) for row in found["models"]))
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise ResourceError(f"{path} is damaged ({type(error).__name__}: {error}); {AGAIN}") from error


def check_same_machine(path: Path, table: Table, fingerprint: Mapping[str, str | int], rounds: int) -> None:
    """Refuses to go on with a table that was measured elsewhere or otherwise.

    Raises:
        ConfigError: which entries differ, and what to do.
    """
    differing = differences(dict(table.fingerprint) | {"rounds": table.rounds}, dict(fingerprint) | {"rounds": rounds})
    if differing:
        raise ConfigError(
            f"--out: {path} was measured under other conditions: {'; '.join(differing)}; "
            "choose another file, or measure as before"
        )


def _cell(row: Mapping[str, Any]) -> Cell:
    out, width = map(int, row["shape"])
    cell = Cell(**{**row, "shape": (out, width)})
    if not _numbers(cell.density, cell.seconds, cell.ratio, cell.dense_seconds, cell.spread, cell.drift):
        raise ValueError(f"a cell of {cell.backend!r} has a time or density that is no number from 0")
    if not all(isinstance(text, str) for text in (cell.backend, cell.dtype, cell.label)):
        raise ValueError("a cell's backend, dtype or label is no text")
    if not all(isinstance(number, int) for number in (cell.tokens, cell.bytes)):
        raise ValueError("a cell's tokens or bytes are no whole number")
    return cell


def _model(row: Mapping[str, Any]) -> ModelRuns:
    runs = tuple(Run(**run) for run in row["runs"])
    linears = {str(name): (int(out), int(width)) for name, (out, width) in row["linears"].items()}
    model = ModelRuns(**{**row, "linears": linears, "runs": runs})
    if not all(isinstance(text, str) for text in (model.architecture, model.name, model.storage)):
        raise ValueError("a model's architecture, name or storage is no text")
    _check_type(model.storage)
    for run in runs:
        if not (_numbers(run.seconds, run.spread) and run.seconds > 0 and isinstance(run.tokens, int)):
            raise ValueError(f"a run of {model.name!r} has a time or token count that is none")
        parse_level(run.label)
    return model


def _check_type(name: object) -> None:
    if not isinstance(getattr(torch, str(name), None), torch.dtype):
        raise ValueError(f"{name!r} is no type of torch's")


def _numbers(*values: object) -> bool:
    """Whether all are finite and not negative."""
    return all(isinstance(value, int | float) and math.isfinite(value) and value >= 0 for value in values)


def _plain(value: object) -> str | int:
    if not isinstance(value, str | int):
        raise ValueError(f"the fingerprint has {value!r}; a text or a whole number is expected")
    return value
