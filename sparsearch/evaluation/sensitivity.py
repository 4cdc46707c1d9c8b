"""Sensitivities: gradient and Gauss-Newton features of every site × level from one forward and a few backwards."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsearch.evaluation.evaluator import Evaluator, StudentOutputs
from sparsearch.model.blockwise import Batch
from sparsearch.model.sites import sharing_modules
from sparsearch.seeds import spawn_integer
from sparsearch.space.allocation import Allocation
from sparsearch.space.sensitivities import Sensitivities
from sparsearch.supernet.switch import Switcher

MOVE_ELEMENTS = 2**27
"""Bound on the weights of all levels of a site that are held at once; more levels are taken in slices."""


class _NotPerSequence(Exception):
    """A site's input has no batch dimension of its own (routed experts): one sequence at a time then."""


@dataclass(eq=False)
class Sensitivity:
    """Computes sensitivities with the model, panel and first objective of an evaluator, whose spending it adds to.

    The gradients of a site exist only inside its own backward hook: they are contracted with the moves of all
    levels at once and dropped, one site at a time. The activations of the whole model are held for one batch.
    """

    evaluator: Evaluator

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
        count = len(sequences)
        space = evaluator.switcher.supernet.space
        tables = np.zeros((count, int(gradient) + draws, len(space), int(space.counts.max())), dtype=np.float32)
        batches = evaluator.batches(sequences)
        evaluator.learn(batches)
        begun = time.perf_counter()
        evaluator.switcher.switch(allocation)
        done = 0
        for rows, batch in batches:
            tables[done : done + len(rows)] = self._batch(rows, batch, gradient, draws, seed)
            done += len(rows)
        evaluator.spent.forward_seconds += time.perf_counter() - begun
        features = tables[:, int(gradient) :].reshape(count * draws, *tables.shape[2:]) if draws else None
        return Sensitivities(tables[:, 0] if gradient else None, features)

    def _batch(self, rows: list[int], batch: Batch, gradient: bool, draws: int, seed: int) -> Any:
        """`[rows, gradient + draws, sites, levels]`."""
        try:
            return self._backwards(rows, batch, gradient, draws, seed)
        except _NotPerSequence:
            single = [{name: value[row : row + 1] for name, value in batch.items()} for row in range(len(rows))]
            parts = [self._backwards([row], one, gradient, draws, seed) for row, one in zip(rows, single, strict=True)]
            return np.concatenate(parts)

    def _backwards(self, rows: list[int], batch: Batch, gradient: bool, draws: int, seed: int) -> Any:
        evaluator = self.evaluator
        objective = evaluator.objectives[0]
        teacher = None if evaluator.teacher is None else evaluator.teacher.outputs(rows, batch)
        contraction = _Contraction(evaluator.switcher, len(rows))
        with torch.enable_grad(), contraction.hooked(evaluator), differentiable_input(evaluator.model.blocks[0]):
            hidden = evaluator.runner.run(batch).hidden
            assert hidden is not None
            student = StudentOutputs(evaluator.runner, hidden, batch)
            scalars = [objective.values(student, teacher, batch)] if gradient else []
            for draw in range(draws):
                seeds = (spawn_integer(seed, "probe", row, draw) for row in rows)
                generators = [torch.Generator().manual_seed(number) for number in seeds]
                scalars.append(objective.probe(student, teacher, batch, generators))
            tables = []
            for number, scalar in enumerate(scalars):
                contraction.begin()
                scalar.sum().backward(retain_graph=number < len(scalars) - 1)
                tables.append(contraction.table)
        tokens = len(rows) * evaluator.panel.length
        evaluator.spent.forward_tokens += tokens
        evaluator.spent.backward_tokens += tokens * len(scalars)
        return np.stack(tables, axis=1)


class _Contraction:
    """Contracts each sequence's weight gradient of a site with the moves to all its levels, in the backward hook."""

    def __init__(self, switcher: Switcher, count: int) -> None:
        self._switcher = switcher
        self._count = count
        space = switcher.supernet.space
        self._shape = (count, len(space), int(space.counts.max()))
        self.begin()

    def begin(self) -> None:
        """Starts a new table `[sequences, sites, levels]`."""
        self.table = np.zeros(self._shape, dtype=np.float32)

    @contextmanager
    def hooked(self, evaluator: Evaluator) -> Iterator[None]:
        """Watches every module that uses a site's weight."""
        handles = []
        for index, site in enumerate(self._switcher.supernet.space.sites):
            for module in sharing_modules(evaluator.model.module, site):
                handles.append(module.register_forward_hook(self._watch(index)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _watch(self, index: int) -> Any:
        def forward(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            inputs = args[0].detach()
            if self._count > 1 and (inputs.dim() < 3 or inputs.shape[0] != self._count):
                raise _NotPerSequence
            output.register_hook(lambda grad: self._contract(index, inputs, grad))

        return forward

    @torch.no_grad()
    def _contract(self, index: int, inputs: Tensor, grad: Tensor) -> None:
        x = inputs.reshape(self._count, -1, inputs.shape[-1]).float()
        delta = grad.reshape(self._count, -1, grad.shape[-1]).float()
        gradients = torch.bmm(delta.transpose(1, 2), x).flatten(1)
        for start, moves in self._moves(index):
            self.table[:, index, start : start + len(moves)] += (gradients @ moves.T).cpu().numpy()

    def _moves(self, index: int) -> Iterator[tuple[int, Tensor]]:
        """(first level, `[levels, out * in]`): the moves from the current weight to each level."""
        switcher = self._switcher
        count = int(switcher.supernet.space.counts[index])
        now = switcher.weight(index).float()
        step = max(1, MOVE_ELEMENTS // now.numel())
        for start in range(0, count, step):
            levels = range(start, min(start + step, count))
            weights = torch.stack([switcher.variant(index, level).to(now) for level in levels])
            yield start, (weights - now).flatten(1)


@contextmanager
def differentiable_input(block: nn.Module) -> Iterator[None]:
    """Starts the graph at the first block's input; no parameter needs a gradient for that."""

    def start(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        if args:
            return (args[0].detach().requires_grad_(), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": kwargs["hidden_states"].detach().requires_grad_()}

    handle = block.register_forward_pre_hook(start, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
