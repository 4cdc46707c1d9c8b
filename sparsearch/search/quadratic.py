"""The quadratic searcher: Fisher start, then trust-region rounds on gradients of all sites and levels at once."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sparsearch.errors import ConfigError
from sparsearch.search.allocators.fisher import fisher_start
from sparsearch.search.base import Evaluate, Options, Progress, Request, Searcher, Sense, Steps
from sparsearch.search.checks import positive_integer, positive_integers
from sparsearch.search.surrogate import Surrogate, within
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import cheapest
from sparsearch.space.space import FloatArray

GROWTH = 2
"""How much larger the samples get after a round without a gain."""

DECISIVE = 1.0
"""Standard errors that a paired difference must lie below 0 to be accepted."""


@dataclass(frozen=True, slots=True)
class QuadraticOptions(Options):
    """Options of `quadratic`.

    Attributes:
        start: sequences of the Fisher start.
        sequences: sequences of a round's sensitivities, and as many others to compare its proposals on; both
            grow by half steps of `most` as gains shrink.
        most: sequences up to which they grow.
        windows: levels that a site may move in a round, one proposal each.
        redraws: further proposals a round, each from a bootstrap of the sequences; used once plain rounds stall.
        fading: how much sensitivities from earlier rounds count, per round.
        patience: rounds in a row without a gain after which it stops.
    """

    start: int = 64
    sequences: int = 16
    most: int = 64
    windows: tuple[int, ...] = (1, 2, 3)
    redraws: int = 4
    fading: float = 0.85
    patience: int = 2

    def __post_init__(self) -> None:
        for option in ("start", "sequences", "most", "redraws", "patience"):
            positive_integer(option, getattr(self, option))
        object.__setattr__(self, "windows", positive_integers("windows", self.windows))
        if not 0 <= self.fading <= 1:
            raise ConfigError(f"searcher.fading: {self.fading!r} is not allowed; give a number from 0 to 1")


class Quadratic(Searcher):
    """Fisher start by exact knapsack, then trust-region rounds; far fewer tokens than an evolutionary search.

    A round takes one forward and two backwards of a few sequences at the current allocation: the gradient of
    the objective and Gauss-Newton features, for every level of every site. Together with those of earlier
    rounds (`Surrogate`) they predict what each move would change; the knapsack over all sites within a window
    of levels is solved exactly for several windows. The proposals are compared with the current allocation on
    other sequences, paired; the best one is taken if its difference is below 0 by a standard error. When a
    round gains nothing, samples grow, and proposals from bootstrapped predictions are added; after `patience`
    such rounds at full size no gain can be told from 0, and the search stops.
    """

    name: ClassVar[str] = "quadratic"
    options_type: ClassVar[type[Options]] = QuadraticOptions
    options: QuadraticOptions

    def steps(self) -> Steps:
        """Start, then rounds until nothing is gained."""
        current = yield from fisher_start(self, self._draw(self.options.start))
        surrogate = Surrogate(self.options.fading)
        size, failures, rounds = self.options.sequences, 0, 0
        self.progress = Progress(0, 1, current)
        while failures < self.options.patience:
            stalled = failures > 0
            better = yield from self._round(current, surrogate, size, stalled)
            rounds += 1
            if better is not None:
                current, failures = better, 0
            else:
                at_most = size >= min(self.options.most, self.problem.sequences)
                failures += 1 if at_most or failures else 0
                size = min(size * GROWTH, self.options.most)
            self.progress = Progress(rounds, rounds + self.options.patience - failures, current)
        return current

    def _round(
        self, current: Allocation, surrogate: Surrogate, size: int, stalled: bool
    ) -> Generator[Request, Any, Allocation | None]:
        """A better allocation than `current`, or None."""
        sensed = self._draw(size)
        surrogate.add(current, (yield Sense(current, sensed, gradient=True, draws=1)))
        proposals = self._proposals(current, surrogate, stalled)
        if not proposals:
            return None
        values = yield Evaluate((current, *proposals), self._draw(size))
        best = _decisive(values)
        return None if best is None else proposals[best]

    def _proposals(self, current: Allocation, surrogate: Surrogate, stalled: bool) -> list[Allocation]:
        """Distinct allocations that the predictions think better than `current`."""
        predicted = surrogate.changes(current)
        tables = [(predicted, window) for window in self.options.windows]
        if stalled:
            windows = self.rng.choice(self.options.windows, size=self.options.redraws)
            tables += [(surrogate.changes(current, self.rng), int(window)) for window in windows]
        space, limits = self.problem.space, self.problem.limits
        found: dict[Allocation, None] = {}
        for values, window in tables:
            near = within(space.valid.shape[1], current.array, window, values)
            found[cheapest(space, limits, near)] = None
        return [proposal for proposal in found if proposal != current]

    def _draw(self, size: int) -> tuple[int, ...]:
        """Fresh random sequences of the panel."""
        count = min(size, self.problem.sequences)
        return tuple(sorted(self.rng.choice(self.problem.sequences, size=count, replace=False).tolist()))


def _decisive(values: FloatArray) -> int | None:
    """Index of the proposal (rows 1 ...) that is clearly better than the current one (row 0), the best such."""
    differences = values[1:] - values[:1]
    # A model that is pruned to death gives no numbers; it is never the best.
    means = np.where(np.isfinite(differences).all(axis=1), differences.mean(axis=1), np.inf)
    best = int(means.argmin())
    if not np.isfinite(means[best]):
        return None
    count = differences.shape[1]
    error = differences[best].std(ddof=1) / np.sqrt(count) if count > 1 else 0.0
    return best if means[best] + DECISIVE * error < 0 else None
