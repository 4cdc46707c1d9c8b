"""A table of this machine's times for a model, as `sparsearch measure` writes it, and models to time."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparsearch.hardware.cost_model import Chooser, rivals
from sparsearch.hardware.fingerprint import machine_fingerprint
from sparsearch.hardware.kernels import Packed, StoredBackend
from sparsearch.hardware.measure import device_clock, measure, open_table
from sparsearch.hardware.measure_model import ModelPlan, Packer, measure_model, timed_variants
from sparsearch.hardware.model_plan import LIMIT, plan_of
from sparsearch.hardware.table import Table
from sparsearch.model.prunable import PrunableModel
from sparsearch.runtime.head import packed_head
from sparsearch.runtime.linear import Form, PackedLinear
from sparsearch.space import Allocation, SearchSpace, level_grid

LONGEST = 60.0
"""Seconds that the rounds of all allocations should last at most."""

ROUNDS = 9
QUICK_LEVELS = (0.5, 0.95)


def measured(path: Path, model: PrunableModel, tokens: Sequence[int], quick: bool) -> tuple[ModelPlan, Table]:
    """A model and its table, measured into `path`, or what is missing there; kernels that the runtime has alone."""
    plan = plan_of(model, tokens=tuple(tokens), quick=quick)
    plan = replace(plan, among=rivals("cpu", model.storage_name), rounds=ROUNDS)
    if quick:
        plan = replace(plan, levels=level_grid(list(QUICK_LEVELS)), rounds=2, sample=0.0)
    whole = ModelPlan(model, plan, wrap, 0.0 if quick else LIMIT, packed_head(model))
    table = open_table(path, machine_fingerprint("cpu", torch.get_num_threads(), plan.dtype_name), plan.rounds)
    table = measure(plan, table, path, progress=lambda done, total: say(f"measure: {done} of {total} shapes"))
    return whole, measure_model(whole, table, path, device_clock("cpu", torch.get_num_threads()))


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
) -> dict[str, np.ndarray]:
    """Seconds of one forward of the model with every allocation in every round, on the backends of the table.

    Args:
        rounds: as many, fewer where they would last too long.
    """
    packer = Packer(whole, Chooser(table, tokens, rivals("cpu", whole.model.storage_name)))
    variants = {name: packer.modules(space.chosen(each)) for name, each in allocations.items()}
    clock = device_clock("cpu", torch.get_num_threads())
    taken = timed_variants(whole.model, variants, tokens, rounds, LONGEST, clock)
    return {name: np.array(seconds) for name, seconds in taken.items()}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
