"""Gradients of single sequences by the sites' weights, in as large parts of a batch as the memory allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from sparsearch.evaluation.backward import Scalar, backward_by_block, backward_whole
from sparsearch.evaluation.footprint import Footprint, measure, memory_bound
from sparsearch.evaluation.site_gradients import NotPerSequence, site_gradients
from sparsearch.model.blockwise import Batch
from sparsearch.model.sites import sharing_modules

if TYPE_CHECKING:
    from sparsearch.evaluation.evaluator import Evaluator

Scalars = Callable[[list[int], Batch], Sequence[Scalar]]
"""Sequences and their items -> what is differentiated, one backward each."""


class Collector(Protocol):
    """Takes in the gradients of some sequences, one site at a time, and keeps what is wanted of them."""

    table: Tensor
    """What was kept, `[sequences, ...]`, on the CPU."""

    def begin(self, number: int) -> None:
        """What comes from now on are gradients of scalar `number`."""

    def add(self, index: int, gradients: Tensor) -> None:
        """Takes in the gradients `[sequences, out * in]` of site `index`, or a part of them that is to be summed."""


@dataclass(eq=False)
class SequenceBackward:
    """Runs backwards with the model and panel of an evaluator, whose spending it adds to.

    The gradients of a site exist only inside its own backward hook. The activations of the whole model are held for
    a batch if they fit into `activation_bytes`, else those of one block at a time, for one more forward through the
    blocks; where not even these fit, the batch is halved, down to one sequence. That changes the numbers by rounding
    alone.

    Attributes:
        typical: a scalar like those that will be differentiated, for the measurement of what a sequence needs: made
            from the items of a batch, and asks no teacher.
        needs_head: whether each scalar makes its own logits.
        activation_bytes: the bound; None: 4 GiB on a CPU, on a CUDA device half of what the weights leave of it.
    """

    evaluator: Evaluator
    typical: Callable[[Batch, Tensor], Tensor]
    needs_head: bool
    activation_bytes: int | None = None

    def __post_init__(self) -> None:
        evaluator = self.evaluator
        self._bound = memory_bound(evaluator.model) if self.activation_bytes is None else self.activation_bytes
        sites = evaluator.switcher.supernet.space.sites
        self._watched = [
            (index, module)
            for index, site in enumerate(sites)
            for module in sharing_modules(evaluator.model.module, site)
        ]
        self.dtype = torch.promote_types(evaluator.switcher.weight(0).dtype, torch.float32)

    @cached_property
    def footprint(self) -> Footprint:
        """What one sequence needs, measured on the dense model, so that it does not hang on the request.

        By one forward and one backward of one sequence. Leaves the model as it was.
        """
        evaluator, current = self.evaluator, self.evaluator.switcher.current
        evaluator.switcher.restore()
        ((_, batch),) = evaluator.batches([0])
        evaluator.spent.forward_tokens += evaluator.panel.length
        evaluator.spent.backward_tokens += evaluator.panel.length
        with torch.enable_grad(), site_gradients(self._watched, 1, self.dtype, lambda _index, _gradients: None):
            found = measure(evaluator.runner, batch, partial(self.typical, batch))
        evaluator.switcher.switch(current)
        return found

    def run(
        self, rows: list[int], batch: Batch, scalars: Scalars, count: int, collector: Callable[[int], Collector]
    ) -> Tensor:
        """What collectors keep of the gradients of sequences `rows`, `[rows, ...]`, by the model as it stands.

        Args:
            count: of scalars.
            collector: makes one for so many sequences.
        """
        size = len(rows)
        each = min(self.footprint.whole, self.footprint.by_block(count))
        while size > 1 and size * each > self._bound:
            size = -(-size // 2)
        try:
            return self._parts(size, rows, batch, scalars, collector)
        except NotPerSequence:
            return self._parts(1, rows, batch, scalars, collector)

    def _parts(
        self, size: int, rows: list[int], batch: Batch, scalars: Scalars, collector: Callable[[int], Collector]
    ) -> Tensor:
        parts = [slice(start, start + size) for start in range(0, len(rows), size)]
        return torch.cat(
            [
                self._backward(rows[part], {name: value[part] for name, value in batch.items()}, scalars, collector)
                for part in parts
            ]
        )

    def _backward(
        self, rows: list[int], batch: Batch, scalars: Scalars, collector: Callable[[int], Collector]
    ) -> Tensor:
        evaluator = self.evaluator
        whole = len(rows) * self.footprint.whole <= self._bound
        backward = backward_whole if whole else backward_by_block
        kept, wanted = collector(len(rows)), scalars(rows, batch)
        with torch.enable_grad(), site_gradients(self._watched, len(rows), self.dtype, kept.add):
            backward(evaluator.runner, batch, wanted, kept.begin)
        again = 0 if whole else float(evaluator.shares[:-1].sum())
        heads = float(evaluator.shares[-1]) if self.needs_head else 0
        tokens = len(rows) * evaluator.panel.length
        evaluator.spent.forward_tokens += tokens * (1 + again + heads * (len(wanted) - 1))
        evaluator.spent.backward_tokens += tokens * len(wanted)
        return kept.table
