"""Timing a whole model on the runtime's modules: dense, and at three levels everywhere."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsearch.hardware.cost_model import Chooser, rivals, site_shape
from sparsearch.hardware.kernels import BACKENDS, Packed, StoredBackend
from sparsearch.hardware.measure import Clock, Plan, copy_packed, interquartile, pruned_weight
from sparsearch.hardware.model_runs import ModelRuns, Run, architecture
from sparsearch.hardware.table import Table, write_table
from sparsearch.model.prunable import PrunableModel
from sparsearch.model.site import Site
from sparsearch.model.sites import find_sites
from sparsearch.space.level import Level

CALIBRATED = 3
"""Levels besides dense."""

CONTEXT, STEPS = 16, 8
"""Tokens in the cache where decoding begins, and tokens that are decoded in one timing."""

SAMPLE = 0.03
"""Seconds that a timing of a prefill should last: shorter ones are repeated in it, up to `STEPS` times."""

LEAST_ROUNDS = 3

MORE_ROUNDS = 3
"""Rounds of a whole model for each one of a product: all predictions rest on its times."""

Wrap = Callable[[StoredBackend, Packed, Tensor | None], nn.Module]
"""Makes the runtime's module of a packed weight and a bias. Handed in, as the runtime lies above this package."""

Modules = Mapping[str, nn.Module]
"""Packed linears by their path in the model."""


@dataclass(frozen=True, eq=False)
class ModelPlan:
    """A model to be timed.

    Attributes:
        model: on the CPU, in the type that it computes in.
        plan: of its products; gives token counts, levels and rounds.
        wrap: see `Wrap`.
        limit: seconds that the rounds of one token count should last at most.
        others: what the runtime replaces besides the sites, in every variant, by path: the output projection. Handed
            in as `wrap` is.
    """

    model: PrunableModel
    plan: Plan
    wrap: Wrap
    limit: float = 30.0
    others: Modules = field(default_factory=dict)

    @property
    def levels(self) -> tuple[Level, ...]:
        """Dense, and up to three sparse ones spread over the plan's; N:M levels are left out."""
        dense, *others = (level for level in self.plan.levels if not level.group)
        count = len(others)
        spread = ((2 * index + 1) * count // (2 * CALIBRATED) for index in range(CALIBRATED))
        return (dense, *dict.fromkeys(others[index] for index in spread))

    @property
    def tokens(self) -> list[int]:
        """Token counts that can be timed: the model has to take token ids, and so many of them."""
        takes_ids = getattr(self.model.module, "main_input_name", "input_ids") == "input_ids"
        most = longest(self.model)
        return [count for count in self.plan.tokens if takes_ids and (most is None or count <= most)]

    def left(self, table: Table) -> list[int]:
        """Token counts with a run that `table` lacks."""
        runs = table.runs_of(architecture(self.model))
        wanted = {level.label for level in self.levels}
        return [count for count in self.tokens if runs is None or not wanted <= set(runs.of(count))]


class Decoding:
    """Times one-token forwards behind a short cache; without a cache (encoders) a forward of one token.

    Args:
        model: with its dense weights, which fill the cache.
        clock: seconds.
    """

    def __init__(self, model: PrunableModel, clock: Clock) -> None:
        module: Any = model.module
        self._module, self._clock = module, clock
        self._token = torch.zeros(1, 1, dtype=torch.int64)
        context = min(CONTEXT, (longest(model) or CONTEXT + STEPS) - STEPS)
        self._cache = None
        if context > 0 and getattr(module, "can_generate", bool)():
            with torch.no_grad():
                self._cache = module(input_ids=torch.zeros(1, context, dtype=torch.int64), use_cache=True)
            self._cache = getattr(self._cache, "past_key_values", None)

    @torch.no_grad()
    def __call__(self) -> float:
        """Seconds of one token, mean over a few."""
        cache = copy.deepcopy(self._cache)
        more = {} if cache is None else {"past_key_values": cache, "use_cache": True}
        started = self._clock()
        for _ in range(STEPS):
            self._module(input_ids=self._token, **more)
        return (self._clock() - started) / STEPS


class Prefill:
    """Times forwards of `tokens` tokens without a cache."""

    def __init__(self, model: PrunableModel, tokens: int, clock: Clock) -> None:
        self._module, self._clock = model.module, clock
        self._ids = torch.zeros(1, tokens, dtype=torch.int64)
        self._more = {"use_cache": False} if hasattr(model.module.config, "use_cache") else {}
        self._repeats = 1
        self()  # libraries set themselves up in the first forward
        self._repeats = min(STEPS, math.ceil(SAMPLE / max(self(), 1e-9)))

    @torch.no_grad()
    def __call__(self) -> float:
        """Seconds of one forward, mean over a few where it is short."""
        started = self._clock()
        for _ in range(self._repeats):
            self._module(input_ids=self._ids, **self._more)
        return (self._clock() - started) / self._repeats


def measure_model(
    plan: ModelPlan,
    table: Table,
    path: Path,
    clock: Clock,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Table:
    """`table` with the missing runs of a model in it; `path` holds it after every token count.

    Args:
        plan: what to time.
        table: with the cells of the model's products, which say which backend to pack for.
        path: where to write.
        clock: seconds.
        progress: told the token counts done and in all.
    """
    missing, sites = plan.left(table), find_sites(plan.model)
    storage = plan.model.storage_name
    runs = table.runs_of(architecture(plan.model)) or ModelRuns(
        architecture(plan.model), plan.model.name, storage, {site.name: site_shape(site) for site in sites}
    )
    for done, tokens in enumerate(missing):
        progress(done, len(missing))
        chooser = Chooser(table, tokens, rivals(plan.plan.device, storage))
        packer = Packer(plan, chooser)
        variants = {level.label: packer.modules({site: level for site in sites}) for level in plan.levels}
        taken = timed_variants(plan.model, variants, tokens, MORE_ROUNDS * plan.plan.rounds, plan.limit, clock)
        found = [Run(tokens, name, float(np.median(row)), interquartile(row)) for name, row in taken.items()]
        runs = runs.with_runs(found)
        table = table.with_model(runs)
        write_table(path, table)
    progress(len(missing), len(missing))
    return table


class Packer:
    """Packs random weights of given levels for the backends that are the fastest: time depends on nothing else."""

    def __init__(self, plan: ModelPlan, chooser: Chooser) -> None:
        self._plan = plan
        self._chooser = chooser
        self._known: dict[tuple[tuple[int, int], Level], tuple[StoredBackend, Packed]] = {}

    def modules(self, levels: Mapping[Site, Level]) -> Modules:
        """A packed linear for every site, each in memory of its own, and what else the runtime replaces."""
        module = self._plan.model.module
        return {**self._plan.others} | {
            site.module: self._module(site_shape(site), level, module.get_submodule(site.module).bias)
            for site, level in levels.items()
        }

    def _module(self, shape: tuple[int, int], level: Level, bias: Any) -> nn.Module:
        if (shape, level) not in self._known:
            backend = BACKENDS[self._chooser.of(shape, level).backend]
            assert isinstance(backend, StoredBackend)
            # Scaled as trained weights are, or deep models without norms would overflow.
            weight = pruned_weight(shape, level, torch.float32) / shape[1] ** 0.5
            self._known[shape, level] = backend, backend.pack(weight.to(self._plan.plan.dtype))
        backend, packed = self._known[shape, level]
        return self._plan.wrap(backend, copy_packed(backend, packed), None if bias is None else bias.detach())


def timed_variants(
    model: PrunableModel, variants: Mapping[str, Modules], tokens: int, rounds: int, limit: float, clock: Clock
) -> dict[str, Sequence[float]]:
    """Seconds of one forward of every variant in every round, in turning order.

    Args:
        model: whose linears the variants replace; as before when this returns.
        variants: name to packed linears.
        tokens: 1 for decoding one token, else a prefill of so many.
        rounds: as many, fewer where they would last longer than `limit` seconds, but at least 3.
    """
    call = Decoding(model, clock) if tokens == 1 else Prefill(model, tokens, clock)
    taken: dict[str, list[float]] = {name: [] for name in variants}
    begun = clock()
    for modules in variants.values():
        with replaced(model.module, modules):
            call()
    lasted = max(clock() - begun, 1e-9)
    for number in range(max(LEAST_ROUNDS, min(rounds, int(limit / lasted)))):
        for name in list(variants)[:: -1 if number % 2 else 1]:
            with replaced(model.module, variants[name]):
                taken[name].append(call())
    return {name: tuple(row) for name, row in taken.items()}


@contextmanager
def replaced(module: nn.Module, modules: Modules) -> Iterator[None]:
    """`module` with `modules` in the place of its own within."""
    own = {path: module.get_submodule(path) for path in modules}
    try:
        for path, new in modules.items():
            module.set_submodule(path, new)
        yield
    finally:
        for path, old in own.items():
            module.set_submodule(path, old)


def longest(model: PrunableModel) -> int | None:
    """Positions of the model, where its config tells."""
    most = getattr(model.module.config, "max_position_embeddings", None)
    return most if isinstance(most, int) and most > 0 else None
