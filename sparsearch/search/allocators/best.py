"""The best of all allocators, by evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sparsearch.search.allocators.registry import BY_NAME
from sparsearch.search.base import Evaluate, Options, Problem, Progress, Searcher, Steps
from sparsearch.search.checks import positive_integer
from sparsearch.search.scores import draw_sequences
from sparsearch.space.allocation import Allocation


@dataclass(frozen=True, slots=True)
class BestAllocatorOptions(Options):
    """Options of `best_allocator`.

    Attributes:
        sequences: of the panel that every allocation is evaluated on.
    """

    sequences: int = 32

    def __post_init__(self) -> None:
        positive_integer("sequences", self.sequences)


class BestAllocator(Searcher):
    """Runs every allocator with its default options and takes the best one on a few sequences of the panel.

    Equal allocations are evaluated once; of equal means the allocator that stands first in the list wins, and
    uniform is the first. Those that need the supernet's errors or sensitivities are left out where there are none.
    """

    name: ClassVar[str] = "best_allocator"
    options_type: ClassVar[type[Options]] = BestAllocatorOptions
    options: BestAllocatorOptions

    @property
    def evaluations(self) -> int:
        """In forwards of one sequence: what the allocators ask for, and one evaluation of each."""
        members = usable(self.problem)
        asked = sum(kind(self.problem, kind.options_type(), self.rng).evaluations or 0 for kind in members.values())
        return asked + len(members) * self._sequences

    @property
    def _sequences(self) -> int:
        return min(self.options.sequences, self.problem.sequences)

    def steps(self) -> Steps:
        """One allocator after the other, then all on the same sequences."""
        members = usable(self.problem)
        found: dict[Allocation, None] = {}
        for number, (kind, rng) in enumerate(zip(members.values(), self.rng.spawn(len(members)), strict=True)):
            allocation = yield from kind(self.problem, kind.options_type(), rng).steps()
            found[allocation] = None
            self.progress = Progress(number + 1, len(members) + 1, next(iter(found)))
        drawn = draw_sequences(self.problem, self.options.sequences, self.rng)
        means = (yield Evaluate(tuple(found), drawn)).mean(axis=1)
        best = list(found)[int(np.argmin(np.where(np.isnan(means), np.inf, means)))]
        self.progress = Progress(len(members) + 1, len(members) + 1, best)
        return best


def usable(problem: Problem) -> Mapping[str, type[Searcher]]:
    """The allocators that `problem` has everything for, by name."""
    return {name: kind for name, kind in BY_NAME.items() if can_answer(problem, kind)}


def can_answer(problem: Problem, kind: type[Searcher]) -> bool:
    """Whether `problem` has the errors and sensitivities that `kind` needs whatever its options."""
    has_errors = problem.errors is not None or not kind.needs_errors
    return has_errors and (problem.sensitivities or not kind.needs_sensitivities)
