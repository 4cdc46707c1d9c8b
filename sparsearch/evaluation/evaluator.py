"""Evaluations: (allocation, sequences) -> one value per sequence, with the work that candidates share done once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.evaluation.objectives import Objective
from sparsearch.evaluation.prefix import divergences, prefix_order, wanted_depths
from sparsearch.evaluation.teacher import Teacher
from sparsearch.model.blockwise import Batch, Blockwise, State, state_bytes
from sparsearch.model.panel import Panel
from sparsearch.model.prunable import PrunableModel
from sparsearch.space.allocation import Allocation
from sparsearch.space.space import FloatArray
from sparsearch.supernet.switch import Switcher


@dataclass
class Spent:
    """What evaluations have cost so far.

    Attributes:
        forward_tokens: tokens times the share of the model that was really run, the dense model's own
            forwards for the teacher included.
        backward_tokens: tokens of backward passes, one for each backward; each costs about two forwards.
        reused_tokens: tokens that prefix reuse saved.
        forward_seconds: in forwards, backwards and objectives.
        switch_seconds: in putting weights into the model.
    """

    forward_tokens: float = 0.0
    backward_tokens: float = 0.0
    reused_tokens: float = 0.0
    forward_seconds: float = 0.0
    switch_seconds: float = 0.0


@dataclass
class StudentOutputs:
    """Outputs of the model as it stands; logits are computed a slice of positions at a time."""

    runner: Blockwise
    hidden: Tensor
    batch: Batch

    def logits(self, rows: slice) -> Tensor:
        """Logits `[batch, rows, vocabulary]`."""
        return self.runner.head(self.hidden[:, rows], self.batch)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One allocation's values on some sequences, and what they cost.

    Attributes:
        index: of the allocation in the request.
        values: objective name to float64 `[sequences]`.
    """

    index: int
    values: dict[str, FloatArray]
    forward_tokens: float
    seconds: float


@dataclass(eq=False)
class Evaluator:
    """Evaluates allocations on one panel.

    Candidates of one call run as a trie over blocks: sorted, so that neighbours share the longest prefix, each
    starts from the cached state in front of the first block where it differs. The numbers are those of
    evaluating one by one with the same batches.

    Attributes:
        objectives: all are computed from the same forward; the first is the one that `values` gives.
        batch_size: sequences per forward.
        state_bytes: bound on the cached states of one batch; beyond it the deepest ones are recomputed.
    """

    model: PrunableModel
    switcher: Switcher
    panel: Panel
    objectives: Sequence[Objective]
    batch_size: int = 16
    state_bytes: int = 2**30
    spent: Spent = field(default_factory=Spent)

    def __post_init__(self) -> None:
        if not len(self.panel):
            raise ConfigError("objective.panel: the panel is empty; give it at least one sequence")
        self.runner = Blockwise(self.model)
        self._blocks = np.array([site.block for site in self.switcher.supernet.space.sites])
        self.shares = block_shares(self.model)
        needs_teacher = any(objective.needs_teacher for objective in self.objectives)
        self.teacher = Teacher(self.runner, self.switcher, self.panel) if needs_teacher else None

    def values(self, allocations: Sequence[Allocation], sequences: Sequence[int]) -> FloatArray:
        """The first objective, float64 `[allocations, sequences]`."""
        table = np.empty((len(allocations), len(sequences)))
        for evaluation in self.evaluate(allocations, sequences):
            table[evaluation.index] = evaluation.values[self.objectives[0].name]
        return table

    @torch.no_grad()
    def evaluate(self, allocations: Sequence[Allocation], sequences: Sequence[int]) -> Iterator[Evaluation]:
        """Yields each allocation's evaluation as soon as it is complete, in prefix order.

        Raises:
            ResourceError: a value is NaN or Inf.
        """
        order = prefix_order(allocations)
        starts = divergences(allocations, order, self._blocks)
        batches = self.batches(sequences)
        kept: list[dict[int, State]] = [{} for _ in batches]
        self.learn(batches)
        for position, index in enumerate(order):
            begun, tokens = time.perf_counter(), self.spent.forward_tokens
            self._switch(allocations[index])
            leave = wanted_depths(starts, position)
            parts = [
                self._run(rows, batch, starts[position], leave, states)
                for (rows, batch), states in zip(batches, kept, strict=True)
            ]
            values = dict(zip((o.name for o in self.objectives), np.concatenate(parts, axis=1), strict=True))
            _check_finite(values, sequences)
            yield Evaluation(index, values, self.spent.forward_tokens - tokens, time.perf_counter() - begun)

    def batches(self, sequences: Sequence[int]) -> list[tuple[list[int], Batch]]:
        """Sequences and their items on the model's device, a batch at a time."""
        groups = [
            list(sequences[start : start + self.batch_size]) for start in range(0, len(sequences), self.batch_size)
        ]
        device = self.model.device
        return [(rows, {name: value.to(device) for name, value in self.panel.batch(rows).items()}) for rows in groups]

    def learn(self, batches: list[tuple[list[int], Batch]]) -> None:
        """Runs the dense model where its answers are not known yet."""
        if self.teacher is None:
            return
        begun = time.perf_counter()
        for rows, _ in batches:
            missing = self.teacher.missing(rows)
            if missing:
                self.teacher.learn(missing, self.batches(missing)[0][1])
                self.spent.forward_tokens += len(missing) * self.panel.length
        self.spent.forward_seconds += time.perf_counter() - begun

    def _switch(self, allocation: Allocation) -> None:
        begun = time.perf_counter()
        self.switcher.switch(allocation)
        self.spent.switch_seconds += time.perf_counter() - begun

    def _run(self, rows: list[int], batch: Batch, start: int, leave: set[int], states: dict[int, State]) -> FloatArray:
        """Float64 `[objectives, sequences]`: one candidate on one batch, from the deepest state that still holds."""
        begun = time.perf_counter()
        for depth in [depth for depth in states if depth > start]:
            del states[depth]
        start = max(states, default=0)
        room = self.state_bytes - sum(map(state_bytes, states.values()))
        capture = {depth - 1 for depth in leave if depth > start}
        run = self.runner.run(batch, start=start, state=states.get(start), capture=capture)
        for block in sorted(run.states):
            room -= state_bytes(run.states[block])
            if room >= 0:
                states[block + 1] = run.states[block]
        assert run.hidden is not None
        student = StudentOutputs(self.runner, run.hidden, batch)
        teacher = None if self.teacher is None else self.teacher.outputs(rows, batch)
        values = [objective.values(student, teacher, batch).numpy() for objective in self.objectives]
        tokens = len(rows) * self.panel.length
        self.spent.forward_tokens += tokens * float(self.shares[start:].sum())
        self.spent.reused_tokens += tokens * float(self.shares[:start].sum())
        self.spent.forward_seconds += time.perf_counter() - begun
        return np.stack(values)


def _check_finite(values: dict[str, FloatArray], sequences: Sequence[int]) -> None:
    for name, row in values.items():
        if not np.isfinite(row).all():
            bad = sequences[int(np.flatnonzero(~np.isfinite(row))[0])]
            raise ResourceError(
                f"objective {name} is NaN or Inf on sequence {bad} of the panel; try model.dtype: float32"
            )


def block_shares(model: PrunableModel) -> FloatArray:
    """Share of a full forward that each block takes, the part behind the blocks last: `[blocks + 1]`, sums to 1.

    Measured in matrix weights, which are what a token is multiplied by; embeddings are look-ups and count only
    as an output head.
    """
    blocks = [sum(p.numel() for p in block.parameters() if p.dim() > 1) for block in model.blocks]
    get_head = getattr(model.module, "get_output_embeddings", lambda: None)
    head = get_head()
    weights = np.array([*blocks, 0 if head is None else head.weight.numel()], dtype=np.float64)
    return weights / weights.sum()
