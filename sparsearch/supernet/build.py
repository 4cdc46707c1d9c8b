"""Building a supernet block by block: statistics, all levels of every site, one shard a site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from joblib import Parallel, delayed
from safetensors.torch import load_file
from torch import Tensor

from sparsearch import __version__
from sparsearch.errors import ConflictError, ResourceError
from sparsearch.files import read_json, write_json
from sparsearch.model.blockwise import Batch, Blockwise, State
from sparsearch.model.panel import Panel
from sparsearch.model.prunable import PrunableModel
from sparsearch.model.sites import model_fingerprint, site_weight
from sparsearch.pruning import Pruner
from sparsearch.seeds import spawn_integer
from sparsearch.space.space import SearchSpace
from sparsearch.supernet.accumulation import Shown, describe, mean_weight, shares
from sparsearch.supernet.encodings import decode_variant
from sparsearch.supernet.prune_site import prune_site
from sparsearch.supernet.statistics import StatisticsCollector
from sparsearch.supernet.store import (
    FORMAT,
    MANIFEST,
    Shard,
    Supernet,
    finished_shard,
    is_whole,
    read_manifest,
    shard_file,
    write_manifest,
    write_shard,
)
from sparsearch.supernet.threads import one_thread

Report = Callable[[int, int], None]
"""Called with (sites done, sites in all); may raise to stop the build, which then resumes from there."""


@dataclass(frozen=True)
class BuildPlan:
    """What a supernet is made from; equal plans give equal supernets.

    Attributes:
        space: sites and levels.
        pruner: makes the variants.
        panel: the calibration panel.
        propagate: what later blocks see of the ones before while their statistics are taken: one allocation, or
            a mean of several variants of each site; None: the dense model.
        seed: for pruners that draw.
    """

    space: SearchSpace
    pruner: Pruner
    panel: Panel
    propagate: Shown | None = None
    seed: int = 0

    def identity(self, model: PrunableModel) -> dict[str, Any]:
        """Everything that the variants depend on, as JSON-able data."""
        return {
            "format": FORMAT,
            "sparsearch": __version__,
            "model": model_fingerprint(model),
            "storage_dtype": str(model.storage_dtype),
            "compute_dtype": str(next(model.module.parameters()).dtype),
            "panel": self.panel.fingerprint,
            "space": self.space.describe(),
            "pruner": pruner_identity(self.pruner),
            "propagate": describe(self.propagate),
            "seed": self.seed,
        }


def pruner_identity(pruner: Pruner) -> dict[str, Any]:
    """A pruner's name and options as JSON-able data."""
    return {"name": pruner.name, "options": asdict(pruner) if is_dataclass(pruner) else {}}


def build_supernet(
    model: PrunableModel,
    plan: BuildPlan,
    folder: Path,
    *,
    batch_size: int = 16,
    workers: int = 1,
    report: Report = lambda done, total: None,
) -> Supernet:
    """Builds what is missing of the supernet in `folder` and opens it.

    Holds the activations of one block at a time, for the whole panel. Every finished site is on disk before
    the next is started, so that a build that was killed goes on with the first missing site.

    Args:
        batch_size: sequences per forward.
        workers: sites of a block that are pruned at the same time, in threads. The result does not depend on it.
        report: progress, and the place to stop.

    Raises:
        ResourceError: NaN or Inf in weights or activations, or the disk is full.
        ConflictError: the folder holds another supernet, or another process is building it.
    """
    identity = plan.identity(model)
    _claim(folder, identity)
    if is_whole(folder):
        return Supernet(folder, plan.space)
    try:
        with FileLock(folder / "build.lock", timeout=0):
            _complete(_Build(model, plan, folder, batch_size, workers), identity, report)
    except Timeout:
        raise ConflictError(
            f"another process is building {folder}; wait for it, then run the same command again"
        ) from None
    return Supernet(folder, plan.space)


def _complete(build: _Build, identity: dict[str, Any], report: Report) -> None:
    folder, space = build.folder, build.plan.space
    for leftover in folder.glob("sites/.*.tmp"):  # of runs that were killed while they wrote a shard
        leftover.unlink()
    shards = {
        index: shard
        for index, site in enumerate(space.sites)
        if (shard := finished_shard(folder, index, site.name)) is not None
    }
    total = len(space)
    if len(shards) < total:
        for index, shard in build.missing(set(shards)):
            shards[index] = shard
            report(len(shards), total)
    if not (folder / MANIFEST).exists():
        write_manifest(folder, identity, [shards[index] for index in range(total)], {})


def _claim(folder: Path, identity: dict[str, Any]) -> None:
    """Marks a folder as this supernet's, or refuses one that is another's."""
    note = folder / "identity.json"
    if not note.exists():
        # A run that was killed while it wrote the note has left the note's temporary file, and that alone.
        if folder.exists() and not all(path.name.startswith(f".{note.name}.") for path in folder.iterdir()):
            raise ConflictError(f"{folder} is not empty and holds no supernet; choose another supernet folder")
        write_json(note, identity)
        return
    found = read_json(note)
    if found != identity:
        odd = sorted(key for key in identity.keys() | found.keys() if identity.get(key) != found.get(key))
        raise ConflictError(
            f"{folder} holds a supernet of another {', '.join(odd)}; choose another supernet folder or delete it"
        )


class _Build:
    """One pass over the blocks of a model that yields the shards that are missing."""

    def __init__(self, model: PrunableModel, plan: BuildPlan, folder: Path, batch_size: int, workers: int) -> None:
        self.model = model
        self.plan = plan
        self.folder = folder
        self.runner = Blockwise(model)
        self.parallel = Parallel(n_jobs=workers, prefer="threads", return_as="generator")
        count = len(plan.panel)
        starts = range(0, count, batch_size)
        self.batches = [slice(start, min(start + batch_size, count)) for start in starts]
        self.states: list[State] = [None] * len(self.batches)

    def missing(self, finished: set[int]) -> Iterator[tuple[int, Shard]]:
        """Prunes every site that is not in `finished`, in model order, and yields its shard once it is on disk."""
        sites = self.plan.space.sites
        todo = [index for index in range(len(sites)) if index not in finished]
        for block in range(sites[todo[-1]].block + 1):
            here = [index for index in todo if sites[index].block == block]
            collector = StatisticsCollector(self.model, [sites[index] for index in here], self._needs_gram)
            with torch.no_grad():
                self._forward(block, collector if self._needs_inputs and here else None)
            yield from self._prune(here, collector)
            self._propagate(block)

    @property
    def _needs_inputs(self) -> bool:
        return self.plan.pruner.statistics != "none"

    @property
    def _needs_gram(self) -> bool:
        return self.plan.pruner.statistics == "gram"

    def _forward(self, block: int, collector: StatisticsCollector | None) -> None:
        """Runs one block (or what lies behind the last one) on the whole panel and keeps its outputs.

        With propagation the outputs are made later, by the pruned block.
        """
        if not self._needs_inputs:
            return
        keep = self.plan.propagate is None
        if collector is None and not keep:
            return
        for number, rows in enumerate(self.batches):
            batch = self._batch(rows)
            if collector is None:
                state = self._step(block, number, batch)
            else:
                with collector.batch():
                    state = self._step(block, number, batch)
            if keep:
                self.states[number] = state

    def _step(self, block: int, number: int, batch: Batch) -> State:
        if block < len(self.model.blocks):
            run = self.runner.run(batch, start=block, state=self.states[number], stop=block + 1)
            state = run.states[block]
            _check_finite(state, self.model.block_paths[block])
            return state
        run = self.runner.run(batch, start=block, state=self.states[number])
        assert run.hidden is not None
        return self.runner.head(run.hidden, batch)

    def _propagate(self, block: int) -> None:
        """Runs the block again for its outputs with the propagated weights in it; later blocks see these alone."""
        shown, space = self.plan.propagate, self.plan.space
        if shown is None or not self._needs_inputs or block == len(self.model.blocks):
            return
        replaced: dict[int, Tensor] = {}
        try:
            for index in (index for index, site in enumerate(space.sites) if site.block == block):
                parts = shares(shown, space, index)
                if parts.keys() != {0}:
                    weight = self._mean(index, parts)
                    replaced[index] = self._view(index).clone()
                    self._view(index).copy_(weight)
            with torch.no_grad():
                for number, rows in enumerate(self.batches):
                    self.states[number] = self._step(block, number, self._batch(rows))
        finally:
            for index, dense in replaced.items():
                self._view(index).copy_(dense)

    def _mean(self, index: int, parts: dict[int, float]) -> Tensor:
        """The mean of a site's variants, level index to share, on the CPU."""
        tensors, dense = load_file(self.folder / shard_file(index)), self._view(index)
        weights = (
            decode_variant(tensors, level, dense, self.model.storage_dtype) if level else dense.cpu() for level in parts
        )
        return mean_weight(zip(parts.values(), weights, strict=True))

    def _prune(self, here: list[int], collector: StatisticsCollector) -> Iterator[tuple[int, Shard]]:
        sites = self.plan.space.sites
        tasks = (
            delayed(prune_site)(
                self.plan.pruner,
                self._view(index),
                collector.of(sites[index]) if self._needs_inputs else None,
                self.plan.space.levels[index][1:],
                self.model.storage_dtype,
                spawn_integer(self.plan.seed, "pruner", sites[index].name),
            )
            for index in here
        )
        # Parallel sites do not fight over cores, and rounding does not depend on workers.
        with one_thread():
            results = self.parallel(tasks)
            try:
                for index, result in zip(here, results, strict=True):
                    yield index, write_shard(self.folder, index, sites[index].name, *result)
            finally:
                # Threads that are still pruning when a stopped process ends would abort it.
                for _ in results:
                    pass

    def _batch(self, rows: slice) -> Batch:
        return {name: value.to(self.model.device) for name, value in self.plan.panel.batch(rows).items()}

    def _view(self, index: int) -> Tensor:
        return site_weight(self.model.module, self.plan.space.sites[index])


def _check_finite(state: State, block: str) -> None:
    hidden = state[0] if isinstance(state, tuple) else state
    if not hidden.isfinite().all():
        raise ResourceError(
            f"{block} gives NaN or Inf on the calibration panel; try model.dtype: float32, or look at the checkpoint"
        )


def supernet_complete(folder: Path) -> bool:
    """Whether `folder` holds a finished supernet."""
    return (folder / MANIFEST).exists() and bool(read_manifest(folder))
