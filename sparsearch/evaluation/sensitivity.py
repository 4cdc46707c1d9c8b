"""Sensitivities: gradient and Gauss-Newton features of every site × level from one forward and a few backwards."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sparsearch.errors import ConfigError
from sparsearch.evaluation.backward import Scalar
from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.evaluation.footprint import Footprint
from sparsearch.evaluation.objectives import OutputObjective
from sparsearch.evaluation.sequence_backward import SequenceBackward
from sparsearch.evaluation.student import StudentOutputs
from sparsearch.evaluation.teacher import TeacherOutputs
from sparsearch.model.blockwise import Batch
from sparsearch.seeds import spawn_integer
from sparsearch.space.allocation import Allocation
from sparsearch.space.sensitivities import Sensitivities
from sparsearch.supernet.switch import Switcher

MOVE_ELEMENTS = 2**27
"""Bound on the weights of all levels of a site that are held at once; more levels are taken in slices."""


@dataclass(frozen=True)
class _Wanted:
    """What a request asks of every sequence."""

    gradient: bool
    draws: int
    seed: int

    @property
    def scalars(self) -> int:
        """How many backwards that takes."""
        return int(self.gradient) + self.draws


@dataclass(eq=False)
class Sensitivity:
    """Computes sensitivities with the model, panel and first objective of an evaluator, whose spending it adds to.

    The gradients of a site are contracted with the moves of all levels inside its own backward hook and dropped.

    Attributes:
        activation_bytes: the bound of `SequenceBackward`. The moves of a site (`MOVE_ELEMENTS`) and the teacher's
            logits are not in it.
    """

    evaluator: Evaluator
    activation_bytes: int | None = None

    def __post_init__(self) -> None:
        objective = self.evaluator.objectives[0]
        if not isinstance(objective, OutputObjective):
            raise ConfigError(
                f"objective: {objective.name} compares gradients and has no sensitivities; use kl, perplexity or hidden"
            )
        self._objective = objective
        self._backward = SequenceBackward(
            self.evaluator, self._value_by_itself, objective.needs_head, self.activation_bytes
        )

    @property
    def footprint(self) -> Footprint:
        """What one sequence needs."""
        return self._backward.footprint

    def at(
        self, allocation: Allocation, sequences: Sequence[int], *, gradient: bool = True, draws: int = 0, seed: int = 0
    ) -> Sensitivities:
        """The tables at `allocation`.

        Args:
            gradient: whether the first-order table is wanted.
            draws: Gauss-Newton features per sequence. One forward and `gradient + draws` backwards a sequence.
            seed: of the draws, which depend on it, the sequence and the number of the draw alone.
        """
        evaluator = self.evaluator
        batches = evaluator.batches(sequences)
        for rows, _ in batches:
            evaluator.learn(rows)
        begun = time.perf_counter()
        evaluator.switcher.switch(allocation)
        wanted = _Wanted(gradient, draws, seed)

        def contraction(count: int) -> _Contraction:
            return _Contraction(evaluator.switcher, count, wanted.scalars, self._backward.dtype)

        scalars = partial(self._scalars, wanted)
        parts = [self._backward.run(rows, batch, scalars, wanted.scalars, contraction) for rows, batch in batches]
        tables = torch.cat(parts).numpy()
        evaluator.spent.forward_seconds += time.perf_counter() - begun
        features = tables[:, int(gradient) :].reshape(-1, *tables.shape[2:]) if draws else None
        return Sensitivities(tables[:, 0] if gradient else None, features)

    def _scalars(self, wanted: _Wanted, rows: list[int], batch: Batch) -> list[Scalar]:
        """The objective if the gradient is wanted, then the probes; each makes its own logits, held for it alone."""
        evaluator, objective = self.evaluator, self._objective
        teacher = None if evaluator.teacher is None else evaluator.teacher.outputs(rows, batch)

        def value(hidden: Tensor) -> Tensor:
            return objective.values(StudentOutputs(evaluator.runner, hidden, batch), teacher, batch)

        def probe(draw: int, hidden: Tensor) -> Tensor:
            seeds = (spawn_integer(wanted.seed, "probe", row, draw) for row in rows)
            generators = [torch.Generator().manual_seed(number) for number in seeds]
            return objective.probe(StudentOutputs(evaluator.runner, hidden, batch), teacher, batch, generators)

        first: list[Scalar] = [value] if wanted.gradient else []
        return first + [partial(probe, draw) for draw in range(wanted.draws)]

    def _value_by_itself(self, batch: Batch, hidden: Tensor) -> Tensor:
        """The objective with the model as its own teacher: all that is held is there, and no teacher is asked."""
        student = StudentOutputs(self.evaluator.runner, hidden, batch)
        same = StudentOutputs(self.evaluator.runner, hidden.detach(), batch)
        teacher = TeacherOutputs(same.hidden, torch.no_grad()(same.logits))
        return self._objective.values(student, teacher, batch)


class _Contraction:
    """Contracts each sequence's weight gradient of a site with the moves to all its levels.

    Attributes:
        table: `[sequences, scalars, sites, levels]`, in the dtype that gradients have.
    """

    def __init__(self, switcher: Switcher, sequences: int, scalars: int, dtype: torch.dtype) -> None:
        self._switcher = switcher
        self._number = 0
        space = switcher.supernet.space
        self.table = torch.zeros((sequences, scalars, len(space), int(space.counts.max())), dtype=dtype)

    def begin(self, number: int) -> None:
        """What comes from now on are gradients of scalar `number`."""
        self._number = number

    def add(self, index: int, gradients: Tensor) -> None:
        """Takes in the gradients `[sequences, out * in]` of site `index`."""
        for start, moves in self._moves(index, gradients):
            here = self.table[:, self._number, index, start : start + len(moves)]
            here += (gradients @ moves.T).cpu()

    def _moves(self, index: int, like: Tensor) -> Iterator[tuple[int, Tensor]]:
        """(first level, `[levels, out * in]`): the moves from the current weight to each level."""
        switcher = self._switcher
        count = int(switcher.supernet.space.counts[index])
        now = switcher.weight(index).to(like)
        step = max(1, MOVE_ELEMENTS // now.numel())
        for start in range(0, count, step):
            moves = now.new_empty((min(step, count - start), *now.shape))
            for number, move in enumerate(moves):
                torch.sub(switcher.variant(index, start + number).to(now), now, out=move)
            yield start, moves.flatten(1)
