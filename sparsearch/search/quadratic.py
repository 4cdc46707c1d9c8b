"""The quadratic searcher: Fisher start, trust-region rounds on gradients of all sites and levels at once, kicks."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from sparsearch.search.allocators.fisher import fisher_start
from sparsearch.search.base import Evaluate, Options, Progress, Request, Searcher, Sense, Steps
from sparsearch.search.checks import number, positive_integer
from sparsearch.search.scores import draw_sequences
from sparsearch.search.surrogate import Surrogate, within
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import cheapest
from sparsearch.space.space import FloatArray

GROWTH = 2
"""How much larger the samples get after a round without a gain."""

DECISIVE = 1.0
"""Standard errors that a paired difference must lie below 0 to be accepted."""

WORTH = 0.01
"""Share of the objective that a kick must gain for the search to go on after it: others rarely gain as much again."""

PAID = 2
"""How many times as many kicks may fail in a row once one was worth it: where one better optimum is there are more."""

WEAKER = 0.7
"""Factor on the strength of kicks after one that led nowhere."""


@dataclass(frozen=True, slots=True)
class QuadraticOptions(Options):
    """Options of `quadratic`.

    Attributes:
        start: sequences of the Fisher start.
        sequences: sequences of the first sensitivities of a descent, and as many others to compare proposals on; both
            double after a round without a gain.
        sensed: sequences up to which those of the sensitivities grow.
        most: sequences up to which those to compare on grow; as many decide between the ends of two descents.
        radius: levels that a site may move in a kick and in the first round after it; it follows what is accepted.
        caution: standard errors that are added to a predicted change before it is believed.
        redraws: further proposals of a round after one without a gain, each from a bootstrap of the sequences.
        fading: how much sensitivities still count by the time that every site has moved.
        tolerance: share of the objective that a round must gain for its descent to go on as before; a smaller gain is
            taken, and counts as none.
        patience: rounds in a row without a gain that end a descent, counted at full size in the first one.
        strength: of the first kick: standard deviation of the logarithms of its factors.
        kicks: kicks in a row that gain less than 1 % after which it stops; twice as many once one has gained that.
    """

    start: int = 64
    sequences: int = 16
    sensed: int = 32
    most: int = 128
    radius: int = 2
    caution: float = 1.0
    redraws: int = 2
    fading: float = 0.1
    tolerance: float = 0.002
    patience: int = 2
    strength: float = 0.35
    kicks: int = 3

    def __post_init__(self) -> None:
        for option in ("start", "sequences", "sensed", "most", "radius", "redraws", "patience", "kicks"):
            positive_integer(option, getattr(self, option))
        number("strength", self.strength, 0)
        number("fading", self.fading, 0, 1)
        number("tolerance", self.tolerance, 0, 1)
        number("caution", self.caution, 0)


@dataclass(frozen=True, slots=True)
class State:
    """Where a descent stands.

    Attributes:
        size: sequences to compare the proposals of the next round on.
        radius: levels that a site may move in it.
        stalled: rounds without a gain since the last one.
        failures: those of them at full size.
    """

    current: Allocation
    size: int
    radius: int
    stalled: int = 0
    failures: int = 0


class Quadratic(Searcher):
    """Fisher start by exact knapsack, trust-region rounds, kicks; far fewer tokens than an evolutionary search.

    A round takes one forward and two backwards of a few sequences at the current allocation: the gradient of the
    objective and one Gauss-Newton draw, for every level of every site. With those of earlier rounds (`Surrogate`)
    they predict what each move would change, and how sure that is. Each prediction is raised by `caution` standard
    errors, and the knapsack over all sites within a radius of levels is solved exactly, under every bound of the
    budget, for the radius, the next smaller and the next larger one. The proposals are compared with the current
    allocation on other sequences, paired, the better half of them on all; the best is taken if its difference lies
    a standard error below 0, and its radius is the next one. After a round that gained less than `tolerance` the
    radius shrinks, samples double, and proposals from bootstrapped predictions are added. When `patience` rounds at
    full size gained nothing to speak of, the descent is over.

    What it ends at is one of several local optima. So kicks follow, as in iterated local search (Lourenço, Martin &
    Stützle, 2003): each site's predicted changes are multiplied by a random factor `exp(strength * normal)`, the
    knapsack is solved for these, and a descent from there, which `patience` rounds in a row without a gain end, is
    compared with the best one so far. Kicks get weaker after each that led nowhere; `kicks` in a row that gain less
    than 1 % end the search, or twice as many once one has gained that. Smaller gains are taken.

    A job's `warm_start` takes the place of the Fisher start.

    Costs 3 forwards of each sequence of the start, and a round 5 forwards (a backward counts two) of each sequence
    that it senses, at most `sensed`, and 1.5 to 5 of each that it compares on; a few tens of milliseconds to seconds
    of its own a round.

    Tried on the reference model (84 sites, 60 and 80 %) and left out. Caution makes 16 sequences propose
    what otherwise takes 64. The joint form `g z + 0.5 mean (V z)^2`, minimised by pair exchanges, was worse than
    the additive one at every sample size from 32 to 128, and the worse the more its interactions counted (30, 70,
    100 %). Curvature from the dense model instead of the current point misleads. Midpoints and crossovers of the
    ends of two seeds were worse than both. Of the 36 pair switches that 256 sequences promised most, tried one by
    one at the end, the best gained 0.15 %, most lost. A descent to the budget in 3 to 12 steps, with sensitivities
    at each, in place of the Fisher start: ends from 0.718 to 0.745 at 80 % (five runs of 6 and 8 steps), where the
    Fisher start gives 0.730 to 0.735 (three seeds), and 0.1448 to 0.1462 against 0.1450 to 0.1458 at 60 %.

    Comparing in halves, sensing on at most 32 sequences, and samples that fade by the sites moved halved the tokens
    of a descent, with ends up to 0.4 % worse in the median.

    Kicks, on a GPT-2 of 48 sites, whose descents end up to 4 % apart: ends at 80 % from 0.504-0.520 to 0.496-0.500,
    at 70 % from 0.1887-0.1894 to 0.1852-0.1862, for three to four times the tokens (three seeds; three failures in a
    row always being the end: 0.500-0.510 and 0.1853-0.1873, for twice the tokens); on the reference model they gain
    up to 0.5 %. Accepting every difference below 0, without a standard error, gave 0.497 to 0.515 for 0.24 to 1.18
    million tokens. Ending every descent at the first round on 32 sequences that gains nothing, with one descent on
    128 after the last kick: 0.503 and 0.517 on the GPT-2 (two seeds), 0.724 and 0.728 on the reference model at 80 %
    (here 0.730), but 0.1450 and 0.1463 at 60 % (0.1450): the ends are then told apart too seldom.

    Every gain prolonging the search, not only one of 1 %: in each of four runs (reference model and a third GPT-2,
    70 and 80 %) one kick of the first three gained, 0.3 to 1.3 %, and none of the seven or eight after it. In
    a fifth the sixth and seventh gained 0.7 and 0.6 %. The first descent ending like the others: 0.3241, 0.3246 and
    0.7298, 0.7283 (reference model, 70 and 80 %, two seeds) against 0.3238, 0.3239 and 0.7298, 0.7274 for as many
    tokens, and 0.1425 and 0.1448 on a fourth GPT-2 at 70 % against 0.1425 twice.
    """

    name: ClassVar[str] = "quadratic"
    options_type: ClassVar[type[Options]] = QuadraticOptions
    needs_sensitivities: ClassVar[bool] = True
    takes_start: ClassVar[bool] = True
    options: QuadraticOptions

    def steps(self) -> Steps:
        """Start, a descent, then kicks until they lead nowhere."""
        known = Surrogate(self.options.fading)
        start = self.problem.start or (
            yield from fisher_start(self, draw_sequences(self.problem, self.options.start, self.rng))
        )
        best = yield from self._descent(start, known, first=True)
        kicks = failures = 0
        allowed, strength = self.options.kicks, self.options.strength
        while failures < allowed:
            self.progress = Progress(1 + kicks, 1 + kicks + allowed - failures, best)
            tried = known.copy()
            end = yield from self._descent(self._kicked(best, known, strength), tried, first=False)
            kicks += 1
            gain = yield from self._gain(best, end)
            if gain is None:
                strength *= WEAKER
            else:
                best, known = end, tried
            if gain is not None and gain >= WORTH:
                failures, allowed = 0, PAID * self.options.kicks
            else:
                failures += 1
        self.outcome = f"the last {failures} of {kicks} kicks gained less than {WORTH:.0%} each"
        return best

    def _kicked(self, best: Allocation, known: Surrogate, strength: float) -> Allocation:
        """The best move from `best` if each site's predicted changes were by a random factor larger or smaller."""
        space = self.problem.space
        factors = np.exp(strength * self.rng.standard_normal(len(space)))
        values = factors[:, None] * known.changes(best).mean
        near = within(space.valid.shape[1], best.array, self.options.radius, values)
        return cheapest(space, self.problem.limits, near)

    def _gain(self, best: Allocation, end: Allocation) -> Generator[Request, Any, float | None]:
        """What `end` is better by, as a share of the objective; None where that cannot be told from 0."""
        if end == best:
            return None
        drawn = self.rng.permutation(self.problem.sequences)[: self._fitting(self.options.most)]
        found = yield from self._compare(best, (end,), tuple(drawn.tolist()))
        return found and found[1]

    def _descent(self, start: Allocation, surrogate: Surrogate, *, first: bool) -> Generator[Request, Any, Allocation]:
        """Rounds from `start` until `patience` of them gain nothing: at full size in the `first` descent, which is
        stood by as it goes, in a row in those after a kick."""
        state = State(start, self._fitting(self.options.sequences), self.options.radius)
        while (state.failures if first else state.stalled) < self.options.patience:
            if first:
                self.progress = Progress(0, 1 + self.options.kicks, state.current)
            state = yield from self._round(state, surrogate)
        return state.current

    def _round(self, state: State, surrogate: Surrogate) -> Generator[Request, Any, State]:
        """Senses at the current allocation, proposes, compares; where the search stands then."""
        sensed, compared = self._samples(state.size)
        surrogate.add(state.current, (yield Sense(state.current, sensed, gradient=True, draws=1)))
        proposals = self._proposals(state, surrogate)
        found = (yield from self._compare(state.current, tuple(proposals), compared)) if proposals else None
        if found is None:
            return self._stalled(state)
        winner, gain = found
        moved = replace(state, current=winner, radius=proposals[winner])
        return self._stalled(moved) if gain < self.options.tolerance else replace(moved, stalled=0, failures=0)

    def _samples(self, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Sequences to sense on, and `size` others to compare on; the same if the panel has but one."""
        sensing = min(size, self.options.sensed)
        drawn = self.rng.permutation(self.problem.sequences)[: sensing + size]
        return _in_order(drawn[:sensing]), tuple(drawn[sensing:].tolist()) or _in_order(drawn)

    def _compare(
        self, current: Allocation, proposals: tuple[Allocation, ...], sequences: tuple[int, ...]
    ) -> Generator[Request, Any, tuple[Allocation, float] | None]:
        """The best proposal that is clearly better, and its gain as a share of the objective.

        All are compared on half of the sequences; the better half of them, as far as they lie below the current
        one there, go on to the others.
        """
        half = (len(sequences) + 1) // 2
        early = yield Evaluate((current, *proposals), _in_order(sequences[:half]))
        kept = _promising(early)
        if not kept:
            return None
        table = early[[0, *(index + 1 for index in kept)]]
        finalists = tuple(proposals[index] for index in kept)
        if sequences[half:]:
            late = yield Evaluate((current, *finalists), _in_order(sequences[half:]))
            table = np.concatenate([table, late], axis=1)
        best = _decisive(table)
        if best is None:
            return None
        return finalists[best], 1 - float(table[best + 1].mean() / table[0].mean())

    def _stalled(self, state: State) -> State:
        """After a round that gained nothing to speak of."""
        at_most = state.size == self._fitting(self.options.most)
        return replace(
            state,
            size=min(state.size * GROWTH, self._fitting(self.options.most)),
            radius=max(state.radius - 1, 1),
            stalled=state.stalled + 1,
            failures=state.failures + int(at_most),
        )

    def _proposals(self, state: State, surrogate: Surrogate) -> dict[Allocation, int]:
        """Distinct allocations that the predictions think better than the current one, each with its radius."""
        predicted = surrogate.changes(state.current)
        tables = [
            (predicted.cautious(self.options.caution), radius)
            for radius in range(max(state.radius - 1, 1), state.radius + 2)
        ]
        tables.append((predicted.mean, 1))
        if state.stalled:
            for _ in range(self.options.redraws):
                tables.append((surrogate.changes(state.current, self.rng).mean, state.radius))
        space, limits = self.problem.space, self.problem.limits
        found: dict[Allocation, int] = {}
        for values, radius in tables:
            near = within(space.valid.shape[1], state.current.array, radius, values)
            found.setdefault(cheapest(space, limits, near), radius)
        found.pop(state.current, None)
        return found

    def _fitting(self, size: int) -> int:
        """`size`, or what leaves as many sequences of the panel to compare on."""
        return max(min(size, self.problem.sequences // 2), 1)


def _in_order(sequences: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(map(int, sequences)))


def _promising(values: FloatArray) -> list[int]:
    """The better half of the proposals (rows 1 ...), as far as their means lie below the current one's (row 0)."""
    gains = values[:1].mean() - values[1:].mean(axis=1)
    order = np.argsort(-gains, kind="stable")[: (len(gains) + 1) // 2]
    return [int(index) for index in order if gains[index] > 0]


def _decisive(values: FloatArray) -> int | None:
    """Index of the proposal (rows 1 ...) that is clearly better than the current one (row 0), the best such."""
    differences = values[1:] - values[:1]
    if not differences.size:
        return None
    # A model that is pruned to death gives no numbers; it is never the best.
    means = np.where(np.isfinite(differences).all(axis=1), differences.mean(axis=1), np.inf)
    best = int(means.argmin())
    if not np.isfinite(means[best]):
        return None
    count = differences.shape[1]
    error = differences[best].std(ddof=1) / np.sqrt(count) if count > 1 else 0.0
    return best if means[best] + DECISIVE * error < 0 else None
