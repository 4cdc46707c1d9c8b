"""What a job will do and cost, before it does it."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sparsearch.errors import ResourceError
from sparsearch.job.prepare import Prepared
from sparsearch.search import ALLOCATORS
from sparsearch.space import SearchSpace
from sparsearch.supernet.build import supernet_complete


@dataclass(frozen=True)
class Plan:
    """The size of a job.

    Attributes:
        prunable: weights in all sites.
        supernet_bytes: estimated size on disk.
        disk_free: bytes free where the supernet will lie.
        supernet: where it lies; `supernet_ready` whether it is complete already.
        objective: its name; a job that names none has the searcher's.
        search_tokens: that the searcher will take at most, a backward counted as two forwards; None where it stops
            by itself.
        reachable: resource to (least, dense) of the whole model.
        budget: the bounds.
        hardware: where latencies come from and how well they predict; None where nothing was measured.
    """

    model: str
    parameters: int
    blocks: int
    sites: int
    levels: int
    prunable: int
    calibration_tokens: int
    supernet: str
    supernet_ready: bool
    supernet_bytes: int
    disk_free: int
    searcher: str
    objective: str
    search_tokens: float | None
    heldout_tokens: int
    budget: dict[str, str]
    reachable: dict[str, tuple[float, float]]
    run_dir: str
    warnings: tuple[str, ...]
    hardware: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content."""
        return asdict(self)


def make_plan(prepared: Prepared) -> Plan:
    """The plan of a job; writes nothing."""
    space, panels = prepared.space, prepared.panels
    searcher = prepared.searcher()
    evaluations = searcher.evaluations
    folder = prepared.supernet_folder
    # What allocators ask for are statistics, which have nothing to do with the objective.
    passes = 1 if searcher.name in ALLOCATORS else prepared.objectives[0].passes
    return Plan(
        model=prepared.model.name,
        parameters=sum(parameter.numel() for parameter in prepared.model.module.parameters()),
        blocks=len(prepared.model.blocks),
        sites=len(space),
        levels=int(space.counts.max()),
        prunable=space.prunable,
        calibration_tokens=len(panels.calibration) * panels.calibration.length,
        supernet=str(folder),
        supernet_ready=supernet_complete(folder),
        supernet_bytes=supernet_bytes(space, prepared.pruner.updates_weights, prepared.model.storage_dtype.itemsize),
        disk_free=free_bytes(folder),
        searcher=searcher.name,
        objective=prepared.objectives[0].name,
        search_tokens=None if evaluations is None else float(evaluations) * passes * panels.search.length,
        heldout_tokens=len(panels.heldout) * panels.heldout.length,
        budget=prepared.config.limits.describe(),
        reachable={name: (space.least(name), space.cost(name, space.dense())) for name in space.resources},
        run_dir=str(prepared.config.run.dir),
        warnings=prepared.warnings,
        hardware=_hardware(prepared),
    )


def _hardware(prepared: Prepared) -> str | None:
    file = prepared.config.hardware
    return None if file is None or prepared.priced is None else f"{file.file}: {prepared.priced.text}"


def supernet_bytes(space: SearchSpace, updates_weights: bool, itemsize: int) -> int:
    """Bytes of all variants: 1 a weight for a level map, else bit mask + non-zeros of every level."""
    total = 0
    for site, levels in zip(space.sites, space.levels, strict=True):
        if not updates_weights and not any(level.group for level in levels):
            total += site.size
            continue
        kept = (site.size - level.removed(site.shape) for level in levels[1:])
        total += sum(min(site.size * itemsize, count * itemsize + site.size // 8) for count in kept)
    return total


def check_disk(prepared: Prepared, folder: Path) -> None:
    """Refuses a supernet in `folder` that the disk has no room for; what an earlier run has built needs none.

    Raises:
        ResourceError: says how much is missing.
    """
    if supernet_complete(folder):
        return
    whole = supernet_bytes(prepared.space, prepared.pruner.updates_weights, prepared.model.storage_dtype.itemsize)
    needed = whole - sum(path.stat().st_size for path in folder.glob("sites/*.safetensors"))
    free = free_bytes(folder)
    if needed > free:
        raise ResourceError(
            f"supernet {folder} needs about {needed / 2**30:.2f} GiB, {free / 2**30:.2f} GiB are free; "
            "give supernet: a folder on a larger disk, or use fewer levels"
        )


def free_bytes(folder: Path) -> int:
    """Free disk space where `folder` is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
