"""The objective on one fixed set of sequences, each allocation asked for once."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from sparsearch.search.base import Evaluate, Problem
from sparsearch.space.allocation import Allocation
from sparsearch.space.space import FloatArray


def draw_sequences(problem: Problem, count: int, rng: np.random.Generator) -> tuple[int, ...]:
    """`count` random sequences of the panel, in its order; all of them where it has no more."""
    size = min(count, problem.sequences)
    return tuple(sorted(rng.choice(problem.sequences, size=size, replace=False).tolist()))


class Scores:
    """Values of allocations on the same sequences, so that any two of them can be compared in pairs.

    What was asked before is remembered and not asked again: searchers that come back to an allocation pay for
    it once. A row takes 8 bytes a sequence.

    Attributes:
        sequences: of the panel.
    """

    def __init__(self, sequences: tuple[int, ...]) -> None:
        self.sequences = sequences
        self._known: dict[Allocation, FloatArray] = {}

    def rows(self, allocations: Sequence[Allocation]) -> Generator[Evaluate, FloatArray, FloatArray]:
        """The values `[allocations, sequences]`, from at most one request."""
        unknown = tuple(dict.fromkeys(each for each in allocations if each not in self._known))
        if unknown:
            values = yield Evaluate(unknown, self.sequences)
            self._known.update(zip(unknown, values, strict=True))
        return np.array([self._known[each] for each in allocations])

    def means(self, allocations: Sequence[Allocation]) -> Generator[Evaluate, FloatArray, FloatArray]:
        """The mean values `[allocations]`; `inf` for a model that is pruned to death."""
        rows = yield from self.rows(allocations)
        return np.where(np.isfinite(rows).all(axis=1), rows.mean(axis=1), np.inf)
