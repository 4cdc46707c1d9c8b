"""Sensitivities: gradient and Gauss-Newton features of every site × level from one forward and a few backwards."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsearch.evaluation.backward import Scalar, backward_by_block, backward_whole
from sparsearch.evaluation.evaluator import Evaluator, StudentOutputs
from sparsearch.evaluation.footprint import Footprint, measure, memory_bound
from sparsearch.evaluation.site_gradients import NotPerSequence, site_gradients
from sparsearch.evaluation.teacher import TeacherOutputs
from sparsearch.model.blockwise import Batch
from sparsearch.model.sites import sharing_modules
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

    The gradients of a site exist only inside its own backward hook: they are contracted with the moves of all
    levels and dropped, one site at a time. The activations of the whole model are held for a batch if they fit
    into `activation_bytes`, else those of one block at a time, for one more forward through the blocks; where not
    even these fit, the batch is halved, down to one sequence. That changes the numbers by rounding alone.

    Attributes:
        activation_bytes: the bound; None: 4 GiB on a CPU, on a CUDA device half of what the weights leave of it.
            What a sequence needs is measured at the first request (`Footprint`), by one forward and one backward of
            one sequence. The moves of a site (`MOVE_ELEMENTS`) and the teacher's logits are not in it.
    """

    evaluator: Evaluator
    activation_bytes: int | None = None

    def __post_init__(self) -> None:
        model = self.evaluator.model
        self._bound = memory_bound(model) if self.activation_bytes is None else self.activation_bytes
        sites = self.evaluator.switcher.supernet.space.sites
        self._watched = [
            (index, module) for index, site in enumerate(sites) for module in sharing_modules(model.module, site)
        ]
        self._dtype = torch.promote_types(self.evaluator.switcher.weight(0).dtype, torch.float32)

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
        evaluator.learn(batches)
        begun = time.perf_counter()
        footprint = self.footprint  # before the switch, because it makes the model dense
        evaluator.switcher.switch(allocation)
        wanted = _Wanted(gradient, draws, seed)
        tables = np.concatenate([self._batch(rows, batch, wanted, footprint) for rows, batch in batches])
        evaluator.spent.forward_seconds += time.perf_counter() - begun
        features = tables[:, int(gradient) :].reshape(-1, *tables.shape[2:]) if draws else None
        return Sensitivities(tables[:, 0] if gradient else None, features)

    @cached_property
    def footprint(self) -> Footprint:
        """What one sequence needs, measured on the dense model, so that it does not hang on the request."""
        evaluator = self.evaluator
        evaluator.switcher.restore()
        ((_, batch),) = evaluator.batches([0])
        scalar = partial(self._value_by_itself, batch)
        evaluator.spent.forward_tokens += evaluator.panel.length
        evaluator.spent.backward_tokens += evaluator.panel.length
        with torch.enable_grad(), site_gradients(self._watched, 1, self._dtype, lambda _index, _gradients: None):
            return measure(evaluator.runner, batch, scalar)

    def _batch(self, rows: list[int], batch: Batch, wanted: _Wanted, footprint: Footprint) -> Any:
        """`[rows, scalars, sites, levels]`."""
        size = len(rows)
        each = min(footprint.whole, footprint.by_block(wanted.scalars))
        while size > 1 and size * each > self._bound:
            size = -(-size // 2)
        try:
            return self._parts(size, rows, batch, wanted, footprint)
        except NotPerSequence:
            return self._parts(1, rows, batch, wanted, footprint)

    def _parts(self, size: int, rows: list[int], batch: Batch, wanted: _Wanted, footprint: Footprint) -> Any:
        parts = [slice(start, start + size) for start in range(0, len(rows), size)]
        return np.concatenate(
            [
                self._backwards(rows[part], {name: value[part] for name, value in batch.items()}, wanted, footprint)
                for part in parts
            ]
        )

    def _backwards(self, rows: list[int], batch: Batch, wanted: _Wanted, footprint: Footprint) -> Any:
        evaluator = self.evaluator
        whole = len(rows) * footprint.whole <= self._bound
        backward = backward_whole if whole else backward_by_block
        contraction = _Contraction(evaluator.switcher, len(rows), wanted.scalars, self._dtype)
        with torch.enable_grad(), site_gradients(self._watched, len(rows), self._dtype, contraction.add):
            backward(evaluator.runner, batch, self._scalars(rows, batch, wanted), contraction.begin)
        again = 0 if whole else float(evaluator.shares[:-1].sum())
        heads = float(evaluator.shares[-1]) if evaluator.objectives[0].needs_head else 0
        tokens = len(rows) * evaluator.panel.length
        evaluator.spent.forward_tokens += tokens * (1 + again + heads * (wanted.scalars - 1))
        evaluator.spent.backward_tokens += tokens * wanted.scalars
        return contraction.table.numpy()

    def _scalars(self, rows: list[int], batch: Batch, wanted: _Wanted) -> list[Scalar]:
        """The objective if the gradient is wanted, then the probes; each makes its own logits, held for it alone."""
        evaluator = self.evaluator
        objective = evaluator.objectives[0]
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
        return self.evaluator.objectives[0].values(student, teacher, batch)


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
