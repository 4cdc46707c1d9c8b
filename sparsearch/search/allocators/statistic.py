"""Allocators that look at one statistic of the dense model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsearch.search.allocators import Allocator
from sparsearch.search.base import Measure, Options, Progress, Steps
from sparsearch.search.checks import positive_integer
from sparsearch.space.space import FloatArray
from sparsearch.space.statistics import STATISTICS


@dataclass(frozen=True, slots=True)
class TextOptions(Options):
    """Options of an allocator whose statistic needs text.

    Attributes:
        sequences: of the search panel that the statistic is taken from.
    """

    sequences: int = 16

    def __post_init__(self) -> None:
        positive_integer("sequences", self.sequences)


class StatisticAllocator(Allocator):
    """An allocator that asks for one statistic and evaluates nothing."""

    statistic: ClassVar[str]
    measured: FloatArray
    """The answer, once `steps` has it."""

    def parameters(self) -> dict[str, float]:
        """The statistic's own parameters."""
        return {}

    @property
    def evaluations(self) -> int:
        """In forwards of one sequence, a backward counted as two."""
        return self._request().forwards

    def steps(self) -> Steps:
        """One request."""
        self.measured = yield self._request()
        found = self.allocate()
        self.progress = Progress(1, 1, found)
        return found

    def _request(self) -> Measure:
        passes = STATISTICS[self.statistic].passes(self.problem.space)
        parameters = tuple(sorted(self.parameters().items()))
        return Measure(self.statistic, self._sequences() if passes else (), parameters, passes)

    def _sequences(self) -> tuple[int, ...]:
        """As many as are asked for, evenly over the panel: two allocators look at the same text."""
        assert isinstance(self.options, TextOptions)
        panel = self.problem.sequences
        count = min(self.options.sequences, panel)
        return tuple(index * panel // count for index in range(count))
