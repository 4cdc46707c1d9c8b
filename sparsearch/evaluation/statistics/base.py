"""What a statistic is computed from, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.evaluation.objectives.cross_entropy import CrossEntropy
from sparsearch.evaluation.student import StudentOutputs
from sparsearch.model.blockwise import Batch
from sparsearch.seeds import spawn_integer
from sparsearch.space.space import FloatArray, SearchSpace


@dataclass(frozen=True, eq=False)
class Measurement:
    """The dense model, some sequences of its panel, and the formula's own parameters.

    Attributes:
        evaluator: whose model is dense now and stays so; its spending is added to.
        seed: of whatever is drawn at random.
    """

    evaluator: Evaluator
    sequences: tuple[int, ...]
    parameters: Mapping[str, float]
    seed: int = 0

    @property
    def space(self) -> SearchSpace:
        """Sites and levels."""
        return self.evaluator.switcher.supernet.space

    def weight(self, site: int) -> Tensor:
        """The dense weight `[out, in]` on the model's device, float32 or better; do not write into it."""
        weight = self.evaluator.switcher.weight(site)
        return weight if weight.dtype == torch.float64 else weight.float()

    def batches(self, forwards: int = 1, backwards: int = 0) -> Iterator[tuple[list[int], Batch]]:
        """Sequences and their items, a batch at a time; what will be run on each is charged."""
        for rows, batch in self.evaluator.batches(self.sequences):
            tokens = len(rows) * self.evaluator.panel.length
            self.evaluator.spent.forward_tokens += forwards * tokens
            self.evaluator.spent.backward_tokens += backwards * tokens
            yield rows, batch

    def losses(self, hidden: Tensor, batch: Batch, rows: Sequence[int]) -> Tensor:
        """A scalar of each sequence `[batch]` whose gradient does not vanish at the dense model.

        Cross-entropy of the text; for models without a head (or with it, but without tokens) a fixed random
        projection of the last hidden states, drawn from the sequence's index alone. KL and hidden error are at
        their minimum at the dense model, so they do not serve.
        """
        get_head = getattr(self.evaluator.model.module, "get_output_embeddings", lambda: None)
        if get_head() is not None and "input_ids" in batch:
            student = StudentOutputs(self.evaluator.runner, hidden, batch)
            return CrossEntropy().values(student, None, batch)
        seeds = (spawn_integer(self.seed, "projection", row) for row in rows)
        draws = [torch.randn(hidden.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        projected = (hidden * torch.stack(draws).to(hidden)).flatten(1).double().sum(dim=1)
        return projected / hidden.detach().double().flatten(1).norm(dim=1)


Formula = Callable[[Measurement], FloatArray]
"""Float64 `[sites]` or `[sites, max levels]`, as `sparsearch.space.statistics.STATISTICS` says."""


def sites_by_block(space: SearchSpace) -> dict[int, list[int]]:
    """Block index to the sites in it; sites behind the last block stand under the number of blocks."""
    groups: dict[int, list[int]] = {}
    for index, site in enumerate(space.sites):
        groups.setdefault(site.block, []).append(index)
    return groups


def per_site(space: SearchSpace, blocks: Mapping[int, float]) -> FloatArray:
    """A value of each block as one of each site in it; sites in no block that has one get the mean of all."""
    mean = float(np.mean(list(blocks.values())))
    return np.array([blocks.get(site.block, mean) for site in space.sites], dtype=np.float64)
