"""Which measured times an export packs by: a file that is named, or that of the job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.hardware.fingerprint import other_machine
from sparsearch.hardware.table import Table, read_table
from sparsearch.job.hardware import measured_file
from sparsearch.job.job import Job
from sparsearch.runtime.choice import Forms, fastest_forms
from sparsearch.space import Allocation


@dataclass(frozen=True)
class Packing:
    """What sites are packed for.

    Attributes:
        forms: by site name.
        text: the choice in words, with how many weights each backend, or pair of them, has.
        doubts: why it may not be the fastest here, a sentence each.
    """

    forms: Mapping[str, Forms]
    text: str
    doubts: tuple[str, ...]


def measured_packing(job: Job, allocation: Allocation, hardware: Path | None, strict: bool = False) -> Packing | None:
    """The fastest backends for an allocation, for as many tokens at once as the job's budget names, by default 1.

    A budget that bounds bytes has counted those of one form a weight, so that there is no second one.

    Args:
        job: whose budget may name a file of measured times; the copy in its run folder counts, so that what was
            budgeted is what runs.
        allocation: of the job's search space.
        hardware: another file; None for the job's own.
        strict: refuse times of another machine.

    Returns:
        None where there is no file: every weight goes to its smallest form.

    Raises:
        ConfigError: the file is missing, damaged, of no CPU or, with `strict`, of another machine; or lacks a shape.
        ConflictError: the job's own file has changed since the job began.
    """
    found = _table(job, hardware)
    if found is None:
        return None
    name, table = found
    where = "budget.hardware" if hardware is None else "--hardware"
    doubts = tuple(f"{name} was measured on another machine: {each}" for each in other_machine(table.fingerprint))
    if strict and doubts:
        raise ConfigError(f"{where}: {'; '.join(doubts)}; or export without --strict")
    space, tokens = job.prepared.space, job.config.tokens
    try:
        counted = "bytes" in job.config.budget
        forms = fastest_forms(space.chosen(allocation), table, tokens, job.prepared.model.storage_name, one=counted)
    except ConfigError as error:
        raise ConfigError(f"{where}: {name}: {error}") from None
    counts = Counter(" and ".join(backend.name for backend, _ in each) for each in forms.values())
    named = ", ".join(f"{count} {backends}" for backends, count in sorted(counts.items()))
    text = f"fastest for {tokens} token{'s' if tokens > 1 else ''} at once by {name}: {named}"
    return Packing(forms, text, doubts)


def _table(job: Job, hardware: Path | None) -> tuple[Path, Table] | None:
    """The file to pack by, and what is in it."""
    own = job.config.hardware
    if hardware is not None:
        where, path = "--hardware", hardware
    elif own is not None:
        where, path = "budget.hardware", measured_file(own, job.folder.hardware)
    else:
        return None
    if not path.is_file():
        raise ConfigError(f"{where}: {path} is no file; give one that sparsearch measure --out FILE wrote")
    try:
        table = read_table(path)
    except ResourceError as error:
        raise ConfigError(f"{where}: {error}") from None
    if table.fingerprint.get("device") != "cpu":
        raise ConfigError(
            f"{where}: {path} was measured on {table.fingerprint.get('device')}; the runtime works on a CPU: run "
            "sparsearch measure --device cpu with another --out"
        )
    return path, table
