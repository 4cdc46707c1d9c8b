"""The Fisher start: curvature at the dense model and an exact knapsack."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

from sparsearch.search.base import Options, Progress, Request, Searcher, Sense, Steps
from sparsearch.search.checks import positive_integer
from sparsearch.search.scores import draw_sequences
from sparsearch.search.surrogate import fisher_costs
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import cheapest


@dataclass(frozen=True, slots=True)
class FisherOptions(Options):
    """Options of `fisher`.

    Attributes:
        sequences: of the search panel that one backward pass each is made on.
    """

    sequences: int = 64

    def __post_init__(self) -> None:
        positive_integer("sequences", self.sequences)


class Fisher(Searcher):
    """Least summed Fisher cost of all sites: one forward and backward, no evaluation.

    At the dense model the gradient of KL vanishes, so the second order rules: a level costs
    `0.5 * mean_s <score gradient of sequence s, W(level) - W>^2`, with labels drawn from the model itself (for
    squared errors Gaussian vectors instead), for all levels of all sites at once. The sum over sites is
    minimised exactly. Interactions between sites are left out. Costs 3 forwards of every sequence.
    """

    name: ClassVar[str] = "fisher"
    options_type: ClassVar[type[Options]] = FisherOptions
    needs_sensitivities: ClassVar[bool] = True
    options: FisherOptions

    @property
    def evaluations(self) -> int:
        """In forwards, a backward counted as two."""
        return 3 * min(self.options.sequences, self.problem.sequences)

    def steps(self) -> Steps:
        """One request."""
        found = yield from fisher_start(self, draw_sequences(self.problem, self.options.sequences, self.rng))
        self.progress = Progress(1, 1, found)
        return found


def fisher_start(searcher: Searcher, sequences: tuple[int, ...]) -> Generator[Request, Any, Allocation]:
    """The allocation with the least Fisher cost from `sequences`, as steps of `searcher`."""
    space, limits = searcher.problem.space, searcher.problem.limits
    answer = yield Sense(space.dense(), sequences, gradient=False, draws=1)
    return cheapest(space, limits, fisher_costs(answer))
