"""A table of this machine's times for the embedded model, as `sparsearch measure` writes it, and models to time."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from sparsearch.hardware.cost_model import Chooser, rivals
from sparsearch.hardware.fingerprint import machine_fingerprint
from sparsearch.hardware.kernels import Packed, StoredBackend
from sparsearch.hardware.measure import measure, open_table
from sparsearch.hardware.measure_model import ModelPlan, Packer, measure_model, timed_variants
from sparsearch.hardware.model_plan import LIMIT, model_plan
from sparsearch.hardware.table import Table
from sparsearch.runtime.linear import Form, PackedLinear
from sparsearch.space import Allocation, SearchSpace, level_grid

NO_LIMIT = 1e9
QUICK_LEVELS = (0.5, 0.95)


def measured(path: Path, tokens: Sequence[int], quick: bool) -> tuple[ModelPlan, Table]:
    """The embedded model and its table, measured into `path`, or what is missing there."""
    model, plan = model_plan(None, tokens=tuple(tokens), quick=quick)
    if quick:
        plan = replace(plan, levels=level_grid(list(QUICK_LEVELS)), rounds=2, sample=0.0)
    whole = ModelPlan(model, plan, wrap, 0.0 if quick else LIMIT)
    table = open_table(path, machine_fingerprint("cpu", torch.get_num_threads(), plan.dtype_name), plan.rounds)
    table = measure(plan, table, path, progress=lambda done, total: say(f"measure: {done} of {total} shapes"))
    return whole, measure_model(whole, table, path, time.perf_counter)


def wrap(backend: StoredBackend, packed: Packed, bias: Tensor | None) -> PackedLinear:
    """The runtime's module."""
    return PackedLinear([Form(backend, packed)], bias, torch.float32)


def timed_allocations(
    whole: ModelPlan,
    table: Table,
    space: SearchSpace,
    allocations: Mapping[str, Allocation],
    tokens: int,
    rounds: int,
) -> dict[str, float]:
    """Median seconds of one forward of the model with every allocation, on the backends that the table chooses."""
    packer = Packer(whole, Chooser(table, tokens, rivals("cpu", whole.model.storage_name)))
    variants = {
        name: packer.modules({
            site: levels[index] for site, levels, index in zip(space.sites, space.levels, each.levels, strict=True)
        })
        for name, each in allocations.items()
    }  # fmt: skip
    taken = timed_variants(whole.model, variants, tokens, rounds, NO_LIMIT, time.perf_counter)
    return {name: median(seconds) for name, seconds in taken.items()}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
