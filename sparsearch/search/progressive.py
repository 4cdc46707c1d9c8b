"""Progressive shrinking: levels that are clearly worse at the budget's price are eliminated until few are left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import ndtri

from sparsearch.search.archive import Archive, final_forwards, perturbed, settled
from sparsearch.search.base import Options, Problem, Progress, Searcher, Steps
from sparsearch.search.checks import number, positive_integer
from sparsearch.search.equilibrium import tuned_prices
from sparsearch.search.intervals import Intervals
from sparsearch.search.predictor import Predictor
from sparsearch.search.surrogate import Prediction
from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Limits
from sparsearch.space.repair import uniform
from sparsearch.space.space import BoolArray
from sparsearch.space.wishes import nearest

CAUTIONS = (0.5, 1.0, 2.0)
"""Standard errors that are added to the effects of levels for the planned allocations."""

RADII = (1, 2, 4)
"""Levels that a site may move in them."""

CANDIDATES = 5
"""Of the final comparison."""


@dataclass(frozen=True, slots=True)
class ProgressiveOptions(Options):
    """Options of `progressive`.

    Attributes:
        rounds: of sampling and elimination at most.
        samples: allocations evaluated in each of them.
        sequences: of the panel, fresh ones for every round.
        error: probability of eliminating a level that is no worse, for one level in one round.
        spread: standard deviation of sampled sparsities around the best allocation.
    """

    rounds: int = 16
    samples: int = 32
    sequences: int = 2
    error: float = 0.02
    spread: float = 0.1

    def __post_init__(self) -> None:
        for option in ("rounds", "samples", "sequences"):
            positive_integer(option, getattr(self, option))
        number("error", self.error, 1e-6, 0.5)
        number("spread", self.spread, 1e-3, 1.0)


class Progressive(Searcher):
    """Shrinks the set of levels of each site round by round to those that may still be the best at the price.

    The name is that of Cai et al., "Once-for-All" (2020), who enlarge the space of a network in training level by
    level; here nothing is trained and the space shrinks, as in successive elimination (Even-Dar, Mannor &
    Mansour, "Action Elimination and Stopping Conditions for the Multi-Armed Bandit", 2006), with sites in place of
    one arm and the budget's price between them. A round

    1. samples allocations of the levels that are left: opposite Sobol' offsets of standard deviation `spread`
       around the best allocation, brought into the intervals and repaired to the budget there; and evaluates them
       on fresh sequences together with the best and with exact optima of the effects as fitted so far;
    2. fits the effects of all levels with their standard errors (`predictor.Predictor`, a Bayesian ridge
       regression that also has pairs of blocks and kinds);
    3. eliminates levels that are clearly worse than the best allocation's at a common price (`clearly_worse`), each
       with probability `error` at most of being wrong, if errors are Gaussian. Those of a fit alone are too small
       for what was chosen by it, so they are multiplied by how far off the last round was (`Archive.fit`).

    A site's levels are ordered, so only the outermost go and what is left is an interval. The best allocation's own
    levels are never eliminated: a budget that can be met stays so, whatever the evaluations say. It ends with one
    level a site or after `rounds`; then the exact knapsack over the fitted effects in what is left is compared
    with the best and the uniform allocation in stages on 16 and 64 further sequences of the panel.

    Costs `rounds * samples * sequences` forwards and some 300 for the comparison, 0.33 million tokens of sequences of
    256 by default; and of its own about 0.2 s a round for 84 sites.

    Attributes:
        intervals: the levels that are left by now.
    """

    name: ClassVar[str] = "progressive"
    options_type: ClassVar[type[Options]] = ProgressiveOptions
    takes_start: ClassVar[bool] = True
    options: ProgressiveOptions

    @property
    def evaluations(self) -> int:
        """Sequences that it will evaluate at most, over all allocations."""
        each = min(self.options.sequences, self.problem.sequences)
        return self.options.rounds * self.options.samples * each + final_forwards(self.problem, CANDIDATES)

    def __init__(self, problem: Problem, options: Options, rng: np.random.Generator) -> None:
        super().__init__(problem, options, rng)
        self.intervals = Intervals.all(problem.space)

    def steps(self) -> Steps:
        """Rounds until one level a site is left or they are over, then the exact optimum of what is left."""
        space, limits, options = self.problem.space, self.problem.limits, self.options
        archive = Archive(self.problem, options.sequences, self.rng)
        first = best = self.problem.first()
        planned: list[Allocation] = []
        for done in range(1, options.rounds + 1):
            yield from archive.evaluate([best, *planned, *self._sampled(best, options.samples)][: options.samples])
            predictor = archive.fit()
            best = self._leader(archive, predictor)
            moves = predictor.moves(space, best.array)
            worse = clearly_worse(moves, limits, self.intervals, best, float(-ndtri(options.error)))
            self.intervals = self.intervals.without(worse, best.array)
            planned = self._planned(moves, best)
            self.progress = Progress(done, options.rounds, best)
            if (self.intervals.sizes == 1).all():
                break
        optimum = self.intervals.cheapest(space, limits, moves.mean)
        candidates = [best, *planned[:1], optimum, first, uniform(space, limits)]
        best = yield from settled(self.problem, candidates, self.rng)
        self.progress = Progress(options.rounds, options.rounds, best)
        return best

    def _sampled(self, center: Allocation, count: int) -> list[Allocation]:
        """Allocations of levels that are left, around `center`, distinct."""
        space, limits = self.problem.space, self.problem.limits
        wishes = perturbed(self.problem, center, self.options.spread, count, self.rng)
        levels = [nearest(space, wish).array for wish in wishes]
        found = dict.fromkeys(self.intervals.repaired(space, limits, each, self.rng) for each in levels)
        # Where levels lie further apart than `spread`, most offsets round to the same few.
        for _ in range(count - len(found)):
            anywhere = self.rng.integers(self.intervals.low, self.intervals.high, endpoint=True)
            found[self.intervals.repaired(space, limits, anywhere, self.rng)] = None
        return list(found)

    def _leader(self, archive: Archive, predictor: Predictor) -> Allocation:
        """Of the evaluated allocations that are left, the one with the least predicted objective."""
        return archive.ranked(predictor, [each for each in archive.recent if self.intervals.hold(each)])[0]

    def _planned(self, moves: Prediction, best: Allocation) -> list[Allocation]:
        """Exact optima of the effects as fitted around `best`, more and less cautiously, near to it and further."""
        space, limits = self.problem.space, self.problem.limits
        found = {
            self.intervals.within(best.array, radius).cheapest(space, limits, moves.cautious(caution)): None
            for caution in CAUTIONS
            for radius in RADII
        }
        found.pop(best, None)
        return list(found)


def clearly_worse(
    moves: Prediction, limits: Limits, intervals: Intervals, best: Allocation, errors: float
) -> BoolArray:
    """Levels `[sites, max levels]` whose effect and price together lie above those of `best` beyond doubt.

    A level changes the objective by its fitted effect, and what it saves of the bounded resources is worth so much
    elsewhere: the prices at which the cheapest levels just meet the bounds (`equilibrium.tuned_prices`). It is
    clearly worse when `effect + prices . (cost - cost of best)` is above so many of the effect's standard `errors`.
    """
    left = intervals.mask(moves.mean.shape[1])
    prices = tuned_prices(np.where(left, moves.mean, np.nan), limits)
    levels = best.array
    sites = np.arange(len(levels))
    costs = np.where(left, limits.costs, 0.0)
    extra = costs - costs[:, sites, levels][:, :, None]
    worse = moves.mean + np.tensordot(prices, extra, axes=1) > errors * moves.error
    worse[sites, levels] = False
    return worse & left
