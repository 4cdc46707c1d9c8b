"""Predictor-based search: pairs and site effects predicted from all evaluations, searched by evolution, refined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sparsearch.search.archive import Archive, final_forwards, perturbed, settled
from sparsearch.search.base import Options, Progress, Searcher, Steps
from sparsearch.search.checks import number, positive_integer
from sparsearch.search.moves import level_switch
from sparsearch.search.predictor import Predictor
from sparsearch.search.surrogate import within
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import cheapest, repair, uniform
from sparsearch.space.space import FloatArray
from sparsearch.space.wishes import nearest

SPREADS = (0.08, 0.16)
"""Standard deviations of the design's halves, in sparsity."""

RADII = (1, 2, 4)
"""Levels that a site may move in the exact proposals that evolution starts from."""

REACH = 2
"""Levels that a site may move in a draw from the posterior."""

GENERATIONS = 12
PARENTS = 24
OFFSPRING = 64
CROSSOVERS = 0.3  # share of the offspring
MOST_SWITCHES = 3

FINALISTS = 6  # beside the first allocation and the uniform one


@dataclass(frozen=True, slots=True)
class NASOptions(Options):
    """Options of `nas`.

    Attributes:
        evaluations: of allocations, those of the design included, those of the final comparison not.
        start: allocations of the design.
        batch: allocations that are evaluated between two fits.
        sequences: of the panel, fresh ones for every batch.
        caution: standard errors that are added to what is predicted before evolution believes it.
    """

    evaluations: int = 512
    start: int = 64
    batch: int = 32
    sequences: int = 2
    caution: float = 1.0

    def __post_init__(self) -> None:
        for option in ("evaluations", "start", "batch", "sequences"):
            positive_integer(option, getattr(self, option))
        number("caution", self.caution, 0)


class NAS(Searcher):
    """Evaluates a design, fits a predictor, searches on it by evolution, evaluates what it promises, fits again.

    The scheme of predictor-based architecture search: Cai et al., "Once-for-All" (2020) train a predictor on
    random subnetworks and evolve on it; Lee et al., "AMQ" (2025) refit theirs in rounds on what the evolution
    found. Here it is Bayesian ridge regression on the effects of sites and on pairs of blocks and kinds
    (`predictor.Predictor`), which has a standard error for every difference of two allocations:

    1. Design: `start` allocations around the uniform one, opposite offsets of a Sobol' sequence repaired to the
       budget; with them uniform, the job's `warm_start`, and where the supernet has layer errors their knapsack.
    2. Rounds, around the latest allocation that is predicted best: an eighth of the batch is what evolution
       (level switches and crossovers, repaired) finds on the cautious prediction, the mean and `caution` times the
       standard errors of all moves; up to nine are exact knapsacks over the predicted effects of single sites,
       within 1, 2 and 4 levels and with half, once and twice the caution; the rest are uncertain ones: each the
       exact optimum, within 2 levels, of one draw from the posterior (Thompson, 1933). The predictor is fitted to
       the latest 256 evaluations, and its errors are multiplied by how far off the last batch was.
    3. The best by prediction, the first and the uniform allocation are compared in stages on 16 and 64 further
       sequences of the panel.

    Every batch is evaluated on `sequences` fresh sequences together with the best so far, whose values tie the
    batches together: an offset of each batch is part of the fit.

    Costs `evaluations * sequences` forwards and some 300 for the comparison, 0.34 million tokens of sequences of 256
    by default; and of its own one to two seconds a round for 84 sites.

    Other than in OFA and AMQ, one budget is met exactly in place of a second objective, sites are neither frozen
    nor pruned from the space, and the predictor is linear in features with variances from left-out targets, which
    84 to 500 sites with a few hundred evaluations need. Other than for a few variables, no lower confidence bound
    is minimised: with 84 sites it leads to where nothing is known. On a formula made of the reference model's Fisher
    features (uniform 0.286, optimum of its additive part 0.142), with four sequences an allocation, evolution on
    `mean - error` ended at 0.226 and on `mean + 2 error` at 0.188 (one seed each). On the reference model itself the
    first allocations by `mean + error`, one error for the whole allocation, were predicted better than the best so
    far in 14 rounds of 14 and were worse on average in all of them; so the errors of moves are added up.

    What was tried on the reference model (84 sites, 60 %, sequences of 128, one seed, held-out: uniform 0.321). The
    defaults ended at 0.192 after 0.17 million tokens; four sequences an allocation at 0.158 after 0.30 million, 0.164
    after 0.23 million. EvoPress's super-fast schedule stood at 0.206 after 0.23 million and 0.181 after 0.51 million.
    The knapsack of the layer errors, which the design has, is 0.425.
    """

    name: ClassVar[str] = "nas"
    options_type: ClassVar[type[Options]] = NASOptions
    takes_start: ClassVar[bool] = True
    options: NASOptions

    @property
    def evaluations(self) -> int:
        """Sequences that it will evaluate at most, over all allocations."""
        each = min(self.options.sequences, self.problem.sequences)
        return self.options.evaluations * each + final_forwards(self.problem, FINALISTS + 2)

    def steps(self) -> Steps:
        """The design, rounds of proposals, and the final comparison."""
        first = self.problem.first()
        archive = Archive(self.problem, self.options.sequences, self.rng)
        starts = self._starts()
        size = self.options.batch
        for begin in range(0, len(starts), size):
            yield from archive.evaluate(self._fitting(archive, [first, *starts[begin : begin + size]]))
            self.progress = Progress(archive.evaluated, self.options.evaluations, first)
        best, predictor = first, archive.fit()
        while archive.evaluated < self.options.evaluations - 1:
            batch = self._proposals(archive, predictor, best)
            if not batch:
                break
            yield from archive.evaluate(self._fitting(archive, [best, *batch]))
            predictor = archive.fit()
            best = archive.ranked(predictor, archive.recent)[0]
            self.progress = Progress(archive.evaluated, self.options.evaluations, best)
        ranking = archive.ranked(predictor, archive.recent)[:FINALISTS]
        level = uniform(self.problem.space, self.problem.limits)
        best = yield from settled(self.problem, [*ranking, first, level], self.rng)
        self.progress = Progress(archive.evaluated, archive.evaluated, best)
        return best

    def _starts(self) -> list[Allocation]:
        """Closed forms that cost nothing, then the design, half of it at each spread."""
        space, limits = self.problem.space, self.problem.limits
        level = uniform(space, limits)
        closed = [level]
        if self.problem.errors is not None:
            closed.append(cheapest(space, limits, np.nan_to_num(self.problem.errors)))
        halves = np.array_split(np.arange(self.options.start), len(SPREADS))
        wishes = [
            wish
            for spread, half in zip(SPREADS, halves, strict=True)
            for wish in perturbed(self.problem, level, spread, len(half), self.rng)
        ]
        order = self.rng.permutation(len(wishes))
        design = [repair(space, limits, nearest(space, wishes[index]).array, self.rng) for index in order]
        return list(dict.fromkeys([*closed, *design]))

    def _fitting(self, archive: Archive, batch: list[Allocation]) -> list[Allocation]:
        """As much of `batch`, distinct, as there are evaluations left for."""
        return list(dict.fromkeys(batch))[: self.options.evaluations - archive.evaluated]

    def _proposals(self, archive: Archive, predictor: Predictor, best: Allocation) -> list[Allocation]:
        """New allocations: what evolution ends with, exact proposals, and draws from the posterior."""
        exact = self._exact(predictor, best)
        evolved = self._evolved(predictor, best, [*exact, *archive.ranked(predictor, archive.recent)])
        evolved = [allocation for allocation in evolved if allocation not in archive.known]
        found = dict.fromkeys([*evolved[: max(self.options.batch // 8, 1)], *exact])
        for _ in range(self.options.batch):
            if len(found) >= self.options.batch:
                break
            found[self._drawn(predictor, best)] = None
        return [allocation for allocation in found if allocation not in archive.known]

    def _exact(self, predictor: Predictor, best: Allocation) -> list[Allocation]:
        """Least sums of what single sites are predicted to change around `best`, more and less cautiously."""
        moves = predictor.moves(self.problem.space, best.array)
        cautions = [factor * self.options.caution for factor in (0.5, 1.0, 2.0)]
        return [self._around(best, radius, moves.cautious(caution)) for caution in cautions for radius in RADII]

    def _drawn(self, predictor: Predictor, best: Allocation) -> Allocation:
        """What would be best if the effects of sites were as a draw from the posterior says."""
        table = predictor.moves(self.problem.space, best.array).mean + predictor.deviation(self.rng)
        return self._around(best, REACH, table)

    def _around(self, center: Allocation, radius: int, values: FloatArray) -> Allocation:
        space, limits = self.problem.space, self.problem.limits
        return cheapest(space, limits, within(space.valid.shape[1], center.array, radius, values))

    def _evolved(self, predictor: Predictor, best: Allocation, seeds: list[Allocation]) -> list[Allocation]:
        """The population after some generations on the predictor, the most promising first.

        An allocation is worth its predicted change and the standard errors of all moves that lead to it, added up:
        errors of the model go together where an optimiser seeks them out.
        """
        errors = self.options.caution * predictor.moves(self.problem.space, best.array).error
        sites = np.arange(len(errors))
        scores: dict[Allocation, float] = {}
        offspring = seeds
        for _ in range(GENERATIONS):
            fresh = [allocation for allocation in dict.fromkeys(offspring) if allocation not in scores]
            if fresh:
                levels = np.array([each.levels for each in fresh])
                cautious = predictor.contrast(levels, best.array).mean + errors[sites, levels].sum(axis=1)
                scores.update(zip(fresh, cautious.tolist(), strict=True))
            parents = sorted(scores, key=scores.__getitem__)[:PARENTS]
            offspring = [self._child(parents) for _ in range(OFFSPRING)]
        return sorted(scores, key=scores.__getitem__)

    def _child(self, parents: list[Allocation]) -> Allocation:
        """A repaired crossover of two parents, or one with some level switches."""
        space, limits = self.problem.space, self.problem.limits
        one, other = (parents[index].array for index in self.rng.integers(len(parents), size=2))
        if self.rng.random() < CROSSOVERS:
            return repair(space, limits, np.where(self.rng.random(len(space)) < 0.5, one, other), self.rng)
        for _ in range(self.rng.integers(1, MOST_SWITCHES, endpoint=True)):
            one = level_switch(space, limits, one, self.rng)
        return Allocation.of(one)
