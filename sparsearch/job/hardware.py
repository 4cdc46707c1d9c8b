"""The file of measured times that a budget names: read, recognised again, and put into the search space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from sparsearch.errors import ConfigError, ConflictError, ResourceError
from sparsearch.files import file_digest
from sparsearch.hardware.cost_model import Latency, latency, with_latency
from sparsearch.hardware.fingerprint import other_machine
from sparsearch.hardware.model_runs import architecture
from sparsearch.hardware.table import Table, read_table
from sparsearch.job.whole_job import Hardware
from sparsearch.model.prunable import PrunableModel
from sparsearch.space import SearchSpace

DOUBTFUL = 0.1
"""Relative error of the calibration from which on a person is warned."""


@dataclass(frozen=True, eq=False)
class Priced:
    """A search space with latencies.

    Attributes:
        text: what the latencies are of, and how well they predict, in words.
        doubts: why they may be wrong, a sentence each.
    """

    space: SearchSpace
    text: str
    doubts: tuple[str, ...]


def read_hardware(path: str) -> dict[str, str]:
    """The file and its digest, as a job's config holds them.

    The digest goes into the config: so a resumed job goes on with the times that it began with, or not at all.

    Raises:
        ConfigError: the file is missing, damaged or no table of measured times.
    """
    if not Path(path).is_file():
        raise ConfigError(f"{path} is no file; give one that sparsearch measure --out FILE wrote")
    try:
        read_table(Path(path))
    except ResourceError as error:
        raise ConfigError(str(error)) from None
    return {"file": path, "digest": file_digest(Path(path))}


def measured_file(hardware: Hardware, copy: Path) -> Path:
    """Where the times lie that a job began with: in the run folder's copy, or still in the file that was named.

    Raises:
        ConflictError: neither holds them.
    """
    for path in (copy, hardware.file):
        if path.is_file() and file_digest(path) == hardware.digest:
            return path
    raise ConflictError(
        f"budget.hardware: {hardware.file} is missing or has changed since the job began, and {copy} does not hold "
        "what was in it; restore it, or begin in another run.dir"
    )


def priced(space: SearchSpace, model: PrunableModel, table: Table, name: Path, tokens: int) -> Priced:
    """`space` with `latency` and `bytes` as the machine of `table` takes them.

    Args:
        space: of the model's linears, with `params`.
        model: whose whole time the table has, or not: then the sites' products alone are counted.
        table: of measured times.
        name: its file, as messages call it.
        tokens: 1 for decoding one token, else a prefill of so many.

    Raises:
        ConfigError: a shape or token count was not measured.
    """
    storage = model.storage_name
    runs = table.runs_of(architecture(model))
    try:
        found = latency(space, table, tokens, storage, runs)
    except ConfigError as error:
        raise ConfigError(f"budget.{error}") from None
    doubts = [f"{name} was measured on another machine: {each}" for each in other_machine(table.fingerprint)]
    if runs is None:
        doubts.append(
            f"{name} has no times of this whole model, so that latency counts the products of the sites alone; "
            f"run sparsearch measure --model {model.name} --out {name}"
        )
    if found.error is not None and found.error > DOUBTFUL:
        doubts.append(
            f"{name} predicts the models that it was calibrated on to {found.error:.0%} only; "
            "measure again on an idle machine, into another file"
        )
    itemsize = getattr(torch, table.dtype).itemsize
    return Priced(with_latency(space, found, itemsize), _text(found, table), tuple(doubts))


def _text(found: Latency, table: Table) -> str:
    what = "decoding one token" if found.tokens == 1 else f"a prefill of {found.tokens} tokens"
    error = "" if found.error is None else f", predicted to within {found.error:.1%} where it was calibrated"
    return f"latency of {what}, threads: {table.fingerprint.get('threads')}{error}"
