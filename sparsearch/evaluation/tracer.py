"""Low-rank gradient traces of the model as it stands, and the dense model's, which are kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sparsearch.evaluation.objectives.cross_entropy import CrossEntropy
from sparsearch.evaluation.sequence_backward import SequenceBackward
from sparsearch.evaluation.student import StudentOutputs
from sparsearch.model.blockwise import Batch
from sparsearch.model.site import Site
from sparsearch.seeds import spawn_integer

if TYPE_CHECKING:
    from sparsearch.evaluation.evaluator import Evaluator

RANK = 32
"""Rows and columns of a trace."""


class Tracer:
    """Computes gradient traces with the model and panel of an evaluator, whose spending it adds to.

    The trace of a sequence at a site is `P G A^T`, `[rank, rank]`: G `[out, in]` is the gradient of the sequence's
    mean cross-entropy by the weight, P and A are fixed Gaussian matrices. `G A^T` is what an adapter `B A` learns
    from at its start, where B is 0 (Hu et al., "LoRA", 2021): the paper's trace. P besides, so that a trace takes
    `4 rank^2` bytes whatever the site (4 KiB, where the factor B of a large layer takes hundreds), since the dense
    model's are kept for every sequence. Random projections keep angles but for an error that falls with the rank
    (Johnson & Lindenstrauss, 1984), and with them correlations, as the mean of what they give is about 0. All
    allocations see the same matrices, which depend on the dimension of the site alone, never on the job's seed.

    A trace takes a forward and a backward of the whole model: a gradient at the first site depends on the last one,
    so that candidates share no prefix of it.
    """

    def __init__(self, evaluator: Evaluator, rank: int = RANK) -> None:
        self._evaluator = evaluator
        self._rank = rank
        self._backward = SequenceBackward(evaluator, self._loss, needs_head=True)
        self._dense: dict[int, Tensor] = {}
        self._drawn: dict[tuple[str, int], Tensor] = {}

    def missing(self, sequences: Sequence[int]) -> list[int]:
        """Those of `sequences` that `learn` has not seen."""
        return [sequence for sequence in sequences if sequence not in self._dense]

    def learn(self, sequences: list[int], batch: Batch) -> None:
        """Keeps the dense model's traces of `batch`, the sequences' items on the model's device."""
        self._evaluator.switcher.restore()
        self._dense.update(zip(sequences, self.traces(sequences, batch), strict=True))

    def dense(self, sequences: Sequence[int]) -> Tensor:
        """The dense model's traces of sequences that it has seen, `[sequences, sites, rank^2]`, on the CPU."""
        return torch.stack([self._dense[sequence] for sequence in sequences])

    def traces(self, sequences: list[int], batch: Batch) -> Tensor:
        """Those of the model as it stands, `[sequences, sites, rank^2]`, on the CPU."""
        return self._backward.run(sequences, batch, lambda _, part: [partial(self._loss, part)], 1, self._projection)

    def _loss(self, batch: Batch, hidden: Tensor) -> Tensor:
        return CrossEntropy().values(StudentOutputs(self._evaluator.runner, hidden, batch), None, batch)

    def _projection(self, count: int) -> _Projection:
        sites = self._evaluator.switcher.supernet.space.sites
        return _Projection([self._matrices(site) for site in sites], count, self._rank)

    def _matrices(self, site: Site) -> tuple[Tensor, Tensor]:
        """P `[rank, out]` and A `[rank, in]`, on the model's device."""
        out, inputs = site.shape
        return self._matrix("out", out), self._matrix("in", inputs)

    def _matrix(self, side: str, dimension: int) -> Tensor:
        if (side, dimension) not in self._drawn:
            generator = torch.Generator().manual_seed(spawn_integer(0, "trace", side, dimension))
            drawn = torch.randn((self._rank, dimension), generator=generator, dtype=torch.float64)
            self._drawn[side, dimension] = drawn.to(self._evaluator.model.device, self._backward.dtype)
        return self._drawn[side, dimension]


class _Projection:
    """Projects each sequence's weight gradient of a site from both sides.

    Attributes:
        table: `[sequences, sites, rank^2]`, in the dtype that gradients have.
    """

    def __init__(self, matrices: Sequence[tuple[Tensor, Tensor]], sequences: int, rank: int) -> None:
        self._matrices = matrices
        self.table = torch.zeros((sequences, len(matrices), rank**2), dtype=matrices[0][0].dtype)

    def begin(self, number: int) -> None:
        """There is one scalar."""

    def add(self, index: int, gradients: Tensor) -> None:
        """Takes in the gradients `[sequences, out * in]` of site `index`."""
        left, right = self._matrices[index]
        projected = left @ gradients.unflatten(1, (left.shape[1], right.shape[1])) @ right.T
        self.table[:, index] += projected.flatten(1).cpu()
