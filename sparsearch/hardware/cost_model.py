"""What the levels of a search space cost in seconds and bytes, by a table of measured times.

    time of an allocation a = D + s * (sum_u c(u, a_u) - sum_u c(u, 0))

with c the fastest backend's measured time of a site at a level, D the measured time of the whole model with every
linear at level 0, and one scalar s a token count, fitted to whole models at three levels: products inside a model
find other things in the caches than those that were timed one by one. Attention, norms, the head and whatever else
is no site are in D.

What is predicted well is the ratio to the dense model: D was measured in the same rounds as the runs that s is fitted
to (`benchmarks/cost_model.py`: 1 to 6 %, median). Seconds are those of the machine as it was then: a shared one is up
to 15 % slower minutes later. Levels that are mixed over the sites, or more of them, fit s no better than the three.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch

from sparsearch.errors import ConfigError
from sparsearch.hardware.cells import DENSE_BACKENDS, Cell, best_seconds, stored_bytes
from sparsearch.hardware.kernels import BACKENDS, StoredBackend
from sparsearch.hardware.model_runs import ModelRuns
from sparsearch.hardware.table import Table
from sparsearch.model.site import Site
from sparsearch.space.level import DENSE, DENSE_LABEL, Level, parse_level
from sparsearch.space.space import FloatArray, SearchSpace, pad_rows

LEAST_SCALE = 0.01
"""Of the scalar, where a noisy calibration says that sparser models are slower."""

LEAST_NOISE = 1e-6
"""Spread of a run where its rounds were all alike."""

PRIOR = 0.5
"""How far the scalar is from 1 where nothing is known."""

Shape = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Choice:
    """The fastest backend for a weight at a level: seconds of a product, and bytes as it is stored."""

    seconds: float
    backend: str
    bytes: float


class Chooser:
    """Finds the fastest backend, each question answered once.

    Args:
        table: of the machine to run on.
        tokens: that are multiplied at once.
        among: names of the backends that compete (`rivals`); None for all.
    """

    def __init__(self, table: Table, tokens: int, among: Collection[str] | None = None) -> None:
        self.tokens = tokens
        self.among = among
        self._dtype = table.dtype
        self._cells: dict[Shape, list[Cell]] = {}
        for cell in table.cells:
            if cell.tokens == tokens:
                self._cells.setdefault(cell.shape, []).append(cell)
        self._known: dict[tuple[Shape, Level], Choice] = {}

    def of(self, shape: Shape, level: Level) -> Choice:
        """For a weight `(out, in)` at `level`: linear in density, never across shapes or token counts.

        Raises:
            ConfigError: nothing was measured there.
        """
        if (shape, level) not in self._known:
            cells, density = self._cells.get(shape, []), 1 - level.removed(shape) / math.prod(shape)
            seconds, name = self._best(shape, density, level.label, self.among)
            stored = stored_bytes(cells, name, shape, density, label=level.label)
            self._known[shape, level] = Choice(seconds, name, stored)
        return self._known[shape, level]

    def seconds(self, shape: Shape, level: Level, backend: str) -> float:
        """What one backend takes; infinite where it was not measured."""
        density = 1 - level.removed(shape) / math.prod(shape)
        try:
            return self._best(shape, density, level.label, {backend})[0]
        except ConfigError:
            return math.inf

    def dense_seconds(self, shape: Shape) -> float:
        """Of torch's own product, which linears run on that are not packed."""
        return self._best(shape, 1.0, "", DENSE_BACKENDS)[0]

    def _best(self, shape: Shape, density: float, label: str, among: Collection[str] | None) -> tuple[float, str]:
        cells = self._cells.get(shape, [])
        return best_seconds(cells, shape, self.tokens, density, dtype=self._dtype, label=label, among=among)


@dataclass(frozen=True, eq=False)
class SiteCosts:
    """Costs of the sites alone, `[sites, max levels]`, `inf` behind a site's last level.

    Attributes:
        seconds: of one product by the fastest backend.
        bytes: as that backend stores the weight.
    """

    seconds: FloatArray
    bytes: FloatArray


@dataclass(frozen=True, eq=False)
class Latency:
    """What a model takes on a machine, and what its weights take there.

    Attributes:
        tokens: 1 for decoding one token, else a prefill of so many.
        sites: seconds (the scalar is in them) and bytes of every site at every level.
        constant: seconds of everything else.
        scale: the scalar; 1 where nothing was calibrated.
        error: largest relative error on the models that the scalar was fitted to; None where there are none, so
            that the products of the sites alone are counted.
    """

    tokens: int
    sites: SiteCosts
    constant: float
    scale: float
    error: float | None


def rivals(device: str, storage: str) -> frozenset[str]:
    """Names of the backends that may run a checkpoint stored in `storage`.

    On a CPU those of the runtime that keep its values as they are: a kernel that rounds them further computes
    another model than the one that the search has evaluated. On CUDA, where nothing is exported, all.
    """
    dtype = getattr(torch, storage)
    return frozenset(
        name
        for name, backend in BACKENDS.items()
        if backend.device == device and (device != "cpu" or isinstance(backend, StoredBackend))
        if torch.promote_types(getattr(backend, "stored", dtype), dtype) == getattr(backend, "stored", dtype)
    )


def site_costs(space: SearchSpace, table: Table, tokens: int, among: Collection[str] | None = None) -> SiteCosts:
    """Seconds of one product with every site at every level, by the fastest backend, and what it stores.

    Level 0 is the fastest at density 1. A level that is sparser than all cells costs what dense does.

    Args:
        space: linear sites.
        table: of the machine to run on.
        tokens: that are multiplied at once.
        among: names of the backends that compete; None for all.

    Raises:
        ConfigError: a site's shape, or `tokens` with it, was not measured; what was is listed.
    """
    for site in space.sites:
        check_measured(site, table, tokens)
    chooser = Chooser(table, tokens, among)
    rows = [
        [chooser.of(site_shape(site), level) for level in levels]
        for site, levels in zip(space.sites, space.levels, strict=True)
    ]
    return SiteCosts(
        pad_rows([[choice.seconds for choice in row] for row in rows], np.inf),
        pad_rows([[choice.bytes for choice in row] for row in rows], np.inf),
    )


def latency(space: SearchSpace, table: Table, tokens: int, storage: str, runs: ModelRuns | None = None) -> Latency:
    """The cost model of a search space on the machine of `table`.

    Args:
        space: linear sites.
        table: of the machine.
        tokens: 1 for decoding one token, else a prefill of so many.
        storage: type of the checkpoint, by torch's name.
        runs: the model's own; None counts the sites' products alone.

    Raises:
        ConfigError: a shape or token count was not measured.
    """
    among = rivals(str(table.fingerprint.get("device", "cpu")), storage)
    sites = site_costs(space, table, tokens, among)
    if runs is None:
        return Latency(tokens, sites, 0.0, 1.0, None)
    if tokens not in runs.tokens:
        measured = ", ".join(map(str, runs.tokens)) or "none"
        raise ConfigError(
            f"tokens: the whole model was not measured with {tokens}; measured: {measured}; "
            f"run sparsearch measure with --tokens {tokens}"
        )
    chooser = Chooser(table, tokens, among)
    scale, error = calibrated(runs, chooser)
    names = {site.name for site in space.sites}
    constant = runs.of(tokens)[DENSE_LABEL].seconds - scale * (
        sum(chooser.of(shape, DENSE).seconds for shape in runs.linears.values())
        # What one side packs and the other does not runs as torch's own product.
        - sum(chooser.dense_seconds(shape) for name, shape in runs.linears.items() if name not in names)
        + sum(chooser.dense_seconds(site_shape(site)) for site in space.sites if site.name not in runs.linears)
    )
    return Latency(tokens, replace(sites, seconds=scale * sites.seconds), constant, scale, error)


def calibrated(runs: ModelRuns, chooser: Chooser) -> tuple[float, float]:
    """The scalar, and the largest relative error with it on the runs that it was fitted to.

    Predictions are `D + s * delta`, delta what the table says that the products of all linears take more at a run's
    level than at level 0. Least squares of the relative errors in units of the runs' spread, and of the scalar's
    distance from 1 in units of `PRIOR`, closed form: where sparsity changes a small model by less than the noise,
    noise alone would decide.
    """
    measured = runs.of(chooser.tokens)
    dense = measured.pop(DENSE_LABEL)
    seconds = np.array([run.seconds for run in measured.values()])
    noise = np.array([max(run.spread, dense.spread, LEAST_NOISE) for run in measured.values()])
    delta = np.array([_difference(runs, chooser, parse_level(label)) for label in measured])
    slopes, targets = delta / seconds / noise, (1 - dense.seconds / seconds) / noise
    scale = float(slopes @ targets + PRIOR**-2) / float(slopes @ slopes + PRIOR**-2)
    scale = max(scale, LEAST_SCALE)
    return scale, float(np.abs((dense.seconds + scale * delta) / seconds - 1).max())


def with_latency(space: SearchSpace, found: Latency, itemsize: int) -> SearchSpace:
    """`space` with the resource `latency` in seconds, and `bytes` as they lie in memory where the model runs.

    Args:
        space: with the resource `params`.
        found: by `latency`.
        itemsize: bytes of a parameter outside the sites, in the type that the model computes in.
    """
    costs = {**space.costs, "latency": found.sites.seconds, "bytes": found.sites.bytes}
    outside = {"latency": found.constant, "bytes": space.constants["params"] * itemsize}
    return SearchSpace(space.sites, space.levels, costs, {**space.constants, **outside})


def site_shape(site: Site) -> Shape:
    """`(out, in)`, with whatever lies before `in` as rows."""
    return math.prod(site.shape[:-1]), site.shape[-1]


def check_measured(site: Site, table: Table, tokens: int) -> None:
    """Refuses what a table has no times for.

    Raises:
        ConfigError: the shape of `site`, or `tokens` with it, was not measured; what was is listed.
    """
    shape = site_shape(site)
    measured = table.tokens_of(shape)
    if not measured:
        shapes = ", ".join(f"{out} x {width}" for out, width in table.shapes) or "none"
        raise ConfigError(
            f"hardware: the shape {shape[0]} x {shape[1]} of site {site.name} was not measured; measured: {shapes}; "
            "run sparsearch measure with this model"
        )
    if tokens not in measured:
        raise ConfigError(
            f"tokens: {tokens} were not measured for the shape {shape[0]} x {shape[1]} of site {site.name}; "
            f"allowed: {', '.join(map(str, measured))}, or run sparsearch measure with --tokens {tokens}"
        )


def _difference(runs: ModelRuns, chooser: Chooser, level: Level) -> float:
    shapes: Iterable[Shape] = runs.linears.values()
    return sum(chooser.of(shape, level).seconds - chooser.of(shape, DENSE).seconds for shape in shapes)
