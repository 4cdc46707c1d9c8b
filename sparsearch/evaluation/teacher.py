"""What the dense model says on a panel, kept as last hidden states rather than logits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsearch.model.blockwise import Batch, Blockwise
from sparsearch.model.panel import Panel
from sparsearch.model.sites import sharing_modules, site_weight
from sparsearch.supernet.switch import Switcher


class Teacher:
    """The dense model's last hidden states on the sequences that were asked for, in the model's dtype on the CPU.

    Logits are recomputed from them exactly; the latest are kept within `logit_bytes`, because all candidates of
    a generation are compared with the same ones.
    """

    def __init__(self, runner: Blockwise, switcher: Switcher, panel: Panel, logit_bytes: int = 2**29) -> None:
        self._runner = runner
        self._switcher = switcher
        self._panel = panel
        self._hidden: dict[int, Tensor] = {}
        self._logits: OrderedDict[tuple[tuple[int, ...], int], Tensor] = OrderedDict()
        self._logit_bytes = logit_bytes
        tail = len(runner.model.blocks)
        sites = switcher.supernet.space.sites
        self._tail = [index for index, site in enumerate(sites) if site.block == tail]

    def missing(self, sequences: Sequence[int]) -> list[int]:
        """Those of `sequences` that `learn` has not seen."""
        return [sequence for sequence in sequences if sequence not in self._hidden]

    @torch.no_grad()
    def learn(self, sequences: Sequence[int], batch: Batch) -> None:
        """Runs the dense model on `batch`, the sequences' items on the model's device."""
        self._switcher.restore()
        hidden = self._runner.run(batch).hidden
        assert hidden is not None
        for row, sequence in enumerate(sequences):
            self._hidden[sequence] = hidden[row].to("cpu", copy=True)

    def outputs(self, sequences: Sequence[int], batch: Batch) -> TeacherOutputs:
        """What the dense model gives on sequences that it has seen."""
        hidden = torch.stack([self._hidden[sequence] for sequence in sequences]).to(self._runner.model.device)
        key = tuple(sequences)
        return TeacherOutputs(hidden, lambda rows: self._cached(key, hidden, rows, batch))

    def _cached(self, sequences: tuple[int, ...], hidden: Tensor, rows: slice, batch: Batch) -> Tensor:
        key = (sequences, rows.start)
        if key not in self._logits:
            self._logits[key] = self._compute(hidden[:, rows], batch)
            while len(self._logits) > 1 and sum(logits.nbytes for logits in self._logits.values()) > self._logit_bytes:
                self._logits.popitem(last=False)
        self._logits.move_to_end(key)
        return self._logits[key]

    @torch.no_grad()
    def _compute(self, hidden: Tensor, batch: Batch) -> Tensor:
        """The dense head on `hidden`; a head that is itself a site is made dense meanwhile."""
        with ExitStack() as dense:
            for index in self._tail:
                if self._switcher.current.levels[index] > 0:
                    dense.enter_context(self._dense_weight(index))
            return self._runner.head(hidden, batch)

    @contextmanager
    def _dense_weight(self, index: int) -> Iterator[None]:
        """Puts a dense parameter in the place of a site's own, which is left alone: a graph may have saved it."""
        root = self._runner.model.module
        site = self._switcher.supernet.space.sites[index]
        kept = {module: module.get_parameter("weight") for module in sharing_modules(root, site)}
        fresh = nn.Parameter(torch.empty_like(next(iter(kept.values()))), requires_grad=False)
        try:
            for module in kept:
                module.weight = fresh
            site_weight(root, site).copy_(self._switcher.dense(index))
            yield
        finally:
            for module, weight in kept.items():
                module.weight = weight


@dataclass
class TeacherOutputs:
    """The dense model's outputs on one batch."""

    hidden: Tensor
    compute: Callable[[slice], Tensor]

    def logits(self, rows: slice) -> Tensor:
        """Logits `[batch, rows, vocabulary]`."""
        return self.compute(rows)
