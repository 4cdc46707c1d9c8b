"""Evaluations: (allocation, sequences) -> one value per sequence, with the work that candidates share done once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import torch
from torch import nn

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.evaluation.objectives import Objective, OutputObjective, TraceObjective
from sparsearch.evaluation.prefix import divergences, prefix_order, wanted_depths
from sparsearch.evaluation.states import StateCache
from sparsearch.evaluation.student import StudentOutputs
from sparsearch.evaluation.teacher import Teacher
from sparsearch.evaluation.tracer import Tracer
from sparsearch.model.blockwise import Batch, Blockwise
from sparsearch.model.panel import Panel
from sparsearch.model.prunable import PrunableModel
from sparsearch.model.segments import Segments, find_segments
from sparsearch.space.allocation import Allocation
from sparsearch.space.space import FloatArray
from sparsearch.supernet.switch import Switcher


@dataclass
class Spent:
    """What evaluations have cost so far.

    Attributes:
        forward_tokens: tokens times the share of the model that was really run, the dense model's own
            forwards for the teacher and the one that finds the segments included.
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

    @property
    def tokens(self) -> float:
        """Forward-token equivalents, a backward counted as two forwards."""
        return self.forward_tokens + 2 * self.backward_tokens


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One allocation's values on some sequences, and what they cost.

    Attributes:
        index: of the allocation in the request.
        values: objective name to float64 `[sequences]`.
        forward_tokens: a backward counted as two forwards.
    """

    index: int
    values: dict[str, FloatArray]
    forward_tokens: float
    seconds: float


@dataclass(eq=False)
class Evaluator:
    """Evaluates allocations on one panel.

    Candidates of one call run as a trie over the segments of a forward (attention, MLP, ...): sorted, so that
    neighbours share the longest prefix, each enters at the first segment where it differs, with the cached outputs
    of those before. The numbers are those of evaluating one by one with the same batches. Objectives that compare
    gradients take no part in this: they have a whole forward and backward of their own (`Tracer`).

    Attributes:
        objectives: all that compare outputs are computed from the same forward; the first of all is the one that
            `values` gives.
        batch_size: sequences per forward.
        state_bytes: bound on the outputs cached in a call, shared evenly by its batches; what does not fit is
            recomputed.
    """

    model: PrunableModel
    switcher: Switcher
    panel: Panel
    objectives: Sequence[Objective]
    batch_size: int = 16
    state_bytes: int = 2**31
    spent: Spent = field(default_factory=Spent)

    def __post_init__(self) -> None:
        if not len(self.panel):
            raise ConfigError("objective.panel: the panel is empty; give it at least one sequence")
        self.runner = Blockwise(self.model)
        needs_teacher = any(objective.needs_teacher for objective in self.objectives)
        self.teacher = Teacher(self.runner, self.switcher, self.panel) if needs_teacher else None
        self._of_outputs = [each for each in self.objectives if isinstance(each, OutputObjective)]
        self._of_traces = [each for each in self.objectives if isinstance(each, TraceObjective)]
        self.tracer = Tracer(self) if self._of_traces else None

    @cached_property
    def segments(self) -> Segments:
        """The segments of the model, from a forward on the first sequence of the panel."""
        begun = time.perf_counter()
        found = find_segments(self.runner, self.switcher.supernet.space.sites, self.batches([0])[0][1])
        self.spent.forward_tokens += self.panel.length
        self.spent.forward_seconds += time.perf_counter() - begun
        return found

    @cached_property
    def shares(self) -> FloatArray:
        """Share of a full forward that each segment takes, what follows them last: `[segments + 1]`, sums to 1."""
        return segment_shares(self.model, self.segments)

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
        segments = self.segments
        order = prefix_order(allocations, segments.sites)
        starts = divergences(allocations, order, segments.sites, len(segments.modules))
        batches = self.batches(sequences)
        caches = [StateCache(segments, self.state_bytes // len(batches)) for _ in batches]
        for rows, _ in batches:
            self.learn(rows)
        for position, index in enumerate(order):
            begun, tokens = time.perf_counter(), self.spent.tokens
            self._switch(allocations[index])
            leave = {needed for depth in wanted_depths(starts, position) for needed in segments.needed(depth)}
            run = time.perf_counter()
            parts = [
                self._compare_outputs(rows, batch, starts[position], leave, cache) | self._compare_traces(rows, batch)
                for (rows, batch), cache in zip(batches, caches, strict=True)
            ]
            self.spent.forward_seconds += time.perf_counter() - run
            values = {each.name: np.concatenate([part[each.name] for part in parts]) for each in self.objectives}
            _check_finite(values, sequences)
            yield Evaluation(index, values, self.spent.tokens - tokens, time.perf_counter() - begun)

    def batches(self, sequences: Sequence[int]) -> list[tuple[list[int], Batch]]:
        """Sequences and their items on the model's device, a batch at a time."""
        groups = [
            list(sequences[start : start + self.batch_size]) for start in range(0, len(sequences), self.batch_size)
        ]
        return [(rows, self._batch(rows)) for rows in groups]

    def learn(self, sequences: Sequence[int]) -> None:
        """Runs the dense model on those of `sequences`, in one batch, whose answers are not known yet."""
        begun = time.perf_counter()
        if self.teacher is not None and (missing := self.teacher.missing(sequences)):
            self.teacher.learn(missing, self._batch(missing))
            self.spent.forward_tokens += len(missing) * self.panel.length
        if self.tracer is not None and (missing := self.tracer.missing(sequences)):
            self.tracer.learn(missing, self._batch(missing))
        self.spent.forward_seconds += time.perf_counter() - begun

    def _switch(self, allocation: Allocation) -> None:
        begun = time.perf_counter()
        self.switcher.switch(allocation)
        self.spent.switch_seconds += time.perf_counter() - begun

    def _batch(self, rows: list[int]) -> Batch:
        return {name: value.to(self.model.device) for name, value in self.panel.batch(rows).items()}

    def _compare_outputs(
        self, rows: list[int], batch: Batch, start: int, leave: set[int], cache: StateCache
    ) -> dict[str, FloatArray]:
        """Name to float64 `[sequences]`: one candidate on one batch, from the deepest cached outputs that hold."""
        if not self._of_outputs:
            return {}
        start = cache.enter(start, leave)
        watch = {self.segments.modules[depth - 1]: partial(cache.keep, depth) for depth in leave if depth > start}
        run = self.runner.run(batch, known=self.segments.known(start, cache.outputs), watch=watch)
        assert run.hidden is not None
        student = StudentOutputs(self.runner, run.hidden, batch)
        teacher = None if self.teacher is None else self.teacher.outputs(rows, batch)
        values = {each.name: each.values(student, teacher, batch).numpy() for each in self._of_outputs}
        tokens = len(rows) * self.panel.length
        self.spent.forward_tokens += tokens * float(self.shares[start:].sum())
        self.spent.reused_tokens += tokens * float(self.shares[:start].sum())
        return values

    def _compare_traces(self, rows: list[int], batch: Batch) -> dict[str, FloatArray]:
        """Name to float64 `[sequences]`: one candidate on one batch, from a forward and a backward of its own."""
        if self.tracer is None:
            return {}
        space = self.switcher.supernet.space
        sizes = np.array([site.size for site in space.sites], dtype=np.float64)
        kept = torch.from_numpy(sizes * (1 - space.sparsities[np.arange(len(space)), self.switcher.current.array]))
        student, dense = self.tracer.traces(rows, batch), self.tracer.dense(rows)
        return {each.name: each.compare(student, dense, kept).numpy() for each in self._of_traces}


def _check_finite(values: dict[str, FloatArray], sequences: Sequence[int]) -> None:
    for name, row in values.items():
        if not np.isfinite(row).all():
            bad = sequences[int(np.flatnonzero(~np.isfinite(row))[0])]
            raise ResourceError(
                f"objective {name} is NaN or Inf on sequence {bad} of the panel; try model.dtype: float32"
            )


def segment_shares(model: PrunableModel, segments: Segments) -> FloatArray:
    """Share of a full forward that each segment takes, what follows them last: `[segments + 1]`, sums to 1.

    Measured in matrix weights, which are what a token is multiplied by; embeddings are look-ups and count only
    as an output head. Those of a block outside its parts count with its last segment.
    """
    get_head = getattr(model.module, "get_output_embeddings", lambda: None)
    head = get_head()
    blocks = [sum(_matrices(block).values()) for block in model.blocks]
    total = sum(blocks) + (0 if head is None else head.weight.numel())
    weights: list[int] = []
    counted: set[nn.Parameter] = set()
    for module in segments.modules:
        new = {p: size for p, size in _matrices(module).items() if p not in counted}
        weights.append(sum(new.values()))
        counted = set() if module in model.blocks else counted | new.keys()
    return np.array([*weights, total - sum(weights)]) / total


def _matrices(module: nn.Module) -> dict[nn.Parameter, int]:
    return {parameter: parameter.numel() for parameter in module.parameters() if parameter.dim() > 1}
