"""Equilibrium search: sites play best responses at a common price of the budget until none of them moves."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sparsearch.search.base import Evaluate, Options, Progress, Request, Searcher, Steps
from sparsearch.search.checks import positive_integer
from sparsearch.search.curves import finite, measured_changes
from sparsearch.search.scores import Scores, draw_sequences
from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Limits
from sparsearch.space.repair import cheapest, uniform
from sparsearch.space.space import FloatArray, IntArray, SearchSpace

HALVINGS = 50
"""Of the interval in which a price lies."""

SWEEPS = 4
"""Times that each of several prices is tuned while the others are held."""

UNKNOWN = 1e3
"""How much dearer than any known payoff a level is that was not measured, for the repair."""


@dataclass(frozen=True, slots=True)
class EquilibriumOptions(Options):
    """Options of `equilibrium`.

    Attributes:
        window: levels that a site may move in one turn.
        rounds: turns of each site at most.
        sequences: of the panel that everything is measured on.
    """

    window: int = 2
    rounds: int = 10
    sequences: int = 8

    def __post_init__(self) -> None:
        for option in ("window", "rounds", "sequences"):
            positive_integer(option, getattr(self, option))


class Equilibrium(Searcher):
    """Best-response dynamics: each site in turn plays its best level at a common price, until nobody moves.

    The sites are players of a game. At prices p of the bounded resources, site u at allocation z pays

        J(z with u at l) + p . cost(u, l)

    and plays the level l within `window` levels of its own that it pays least for. All share J, so this is an
    exact potential game (Monderer & Shapley, "Potential Games", 1996): at fixed prices every move lowers
    J + p . cost, and turns end in a pure Nash equilibrium, where no site gains by moving alone. Prices are tuned
    before each round, by bisection, such that the best responses to what was last measured just meet the bounds:
    the Lagrange multipliers of the budget (Everett, "Generalized Lagrange Multiplier Method", 1963). With several
    bounds each price in turn is tuned, the others held.

    Starts uniform. Turns go in model order, block by block; a turn measures the alternatives of one site at the
    allocation as it then is, all on the same sequences. Prices meet a budget up to a step, and during a round not
    even that, so after every round the exact knapsack over what was last measured makes an allocation that meets
    it (`space.repair.cheapest`); it is evaluated, and the best one is the answer. Where sites do not interact
    that is the optimum within `window` levels.

    Costs `2 * window` evaluations a site and round, all of `sequences` forwards; a round ends the search when
    nobody has moved.

    Attributes:
        played: the levels `[sites]` that the sites play by now; they may miss the budget.
    """

    name: ClassVar[str] = "equilibrium"
    options_type: ClassVar[type[Options]] = EquilibriumOptions
    options: EquilibriumOptions

    @property
    def evaluations(self) -> int:
        """Sequences that it will evaluate at most, over all allocations."""
        options, sites = self.options, len(self.problem.space)
        each = min(options.sequences, self.problem.sequences)
        # The first look around, then a turn of each site and one repaired allocation a round.
        return each * (1 + 2 * options.window * sites * (1 + options.rounds) + options.rounds)

    def steps(self) -> Steps:
        """A look around uniform, then rounds."""
        space, limits = self.problem.space, self.problem.limits
        scores = Scores(draw_sequences(self.problem, self.options.sequences, self.rng))
        best = uniform(space, limits)
        self.played = levels = best.array
        windows = [_window(space, site, level, self.options.window) for site, level in enumerate(levels)]
        payoffs = (yield from measured_changes(space, scores, best, windows)).mean(axis=0)
        self.progress = Progress(0, self.options.rounds, best)
        for done in range(1, self.options.rounds + 1):
            prices = tuned_prices(payoffs, limits)
            moved = yield from self._round(scores, levels, payoffs, prices)
            repaired = cheapest(space, limits, _known(payoffs))
            means = yield from scores.means([best, repaired])
            best = repaired if means[1] < means[0] else best
            self.progress = Progress(done, self.options.rounds, best)
            if not moved:
                break
        return best

    def _round(
        self, scores: Scores, levels: IntArray, payoffs: FloatArray, prices: FloatArray
    ) -> Generator[Request, Any, bool]:
        """One turn of each site; changes `levels` and `payoffs`, and says whether anybody moved."""
        moved = False
        for site in range(len(levels)):
            row = yield from self._payoffs(scores, levels, site)
            payoffs[site] = row
            paid = _paid(row, prices, self.problem.limits.costs[:, site])
            best = int(paid.argmin())
            if paid[best] < paid[levels[site]]:
                levels[site], moved = best, True
        return moved

    def _payoffs(self, scores: Scores, levels: IntArray, site: int) -> Generator[Evaluate, FloatArray, FloatArray]:
        """What the levels of `site` around its own change, `[max levels]`; `nan` outside the window."""
        space = self.problem.space
        rows: list[list[int]] = [[] for _ in levels]
        rows[site] = _window(space, site, int(levels[site]), self.options.window)
        changes = yield from measured_changes(space, scores, Allocation.of(levels), rows)
        return changes[:, site].mean(axis=0)


def tuned_prices(payoffs: FloatArray, limits: Limits) -> FloatArray:
    """The least prices `[R]` at which the best responses to `payoffs` meet the bounds of `limits`.

    Up to the size of a step, and with several bounds up to what tuning one at a time reaches; 0 where a bound is
    met anyway. A few milliseconds for hundreds of sites.

    Args:
        payoffs: `[sites, max levels]`; `nan` and `inf` are not played, one level of each site is finite.
        limits: the bounds.
    """
    prices = np.zeros(len(limits.bounds))
    for _ in range(SWEEPS if len(prices) > 1 else 1):
        for resource in range(len(prices)):
            prices[resource] = _tuned(payoffs, limits, prices, resource)
    return prices


def _tuned(payoffs: FloatArray, limits: Limits, prices: FloatArray, resource: int) -> float:
    """The least price of `resource` at which its bound is met, the other `prices` held; the largest if none is."""
    trial = prices.copy()

    def met(price: float) -> bool:
        trial[resource] = price
        levels = _paid(payoffs, trial, limits.costs).argmin(axis=-1)
        return bool(limits.spent(levels)[resource] <= limits.bounds[resource])

    low, high = 0.0, _largest_price(payoffs, limits.costs, prices, resource)
    if met(low):
        return low
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if met(middle) else (middle, high)
    return high


def _largest_price(payoffs: FloatArray, costs: FloatArray, prices: FloatArray, resource: int) -> float:
    """A price of `resource` at which every site plays the level that costs least of it."""
    others = prices.copy()
    others[resource] = 0.0
    paid = _paid(payoffs, others, costs)
    played = np.isfinite(paid)
    with np.errstate(invalid="ignore"):  # inf - inf
        gaps = np.diff(np.sort(np.where(played, costs[resource], np.inf), axis=1), axis=1)
    gaps = gaps[np.isfinite(gaps) & (gaps > 0)]
    return 2 * float(np.ptp(paid[played])) / float(gaps.min(initial=np.inf)) + 1e-300


def _paid(payoffs: FloatArray, prices: FloatArray, costs: FloatArray) -> FloatArray:
    """Payoffs `[..., levels]` plus what `costs` `[R, ..., levels]` come to; `inf` where a level cannot be played."""
    played = np.isfinite(payoffs)
    return np.where(played, payoffs, np.inf) + np.tensordot(prices, np.where(played, costs, 0.0), axes=1)


def _window(space: SearchSpace, site: int, level: int, radius: int) -> list[int]:
    """The levels of `site` up to `radius` from `level`."""
    return list(range(max(level - radius, 0), min(level + radius + 1, int(space.counts[site]))))


def _known(payoffs: FloatArray) -> FloatArray:
    """`payoffs` with levels that were not measured made too dear to take."""
    table = finite(payoffs)
    dearest = float(np.nanmax(np.abs(table)))
    return np.where(np.isnan(table), UNKNOWN * (dearest + 1e-12), table)
