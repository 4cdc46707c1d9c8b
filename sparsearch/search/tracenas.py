"""The evolutionary search of TraceNAS: an elite, crossover, and Gaussian mutation of sparsities."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sparsearch.errors import ConfigError
from sparsearch.search.base import Options, Progress, Searcher, Steps
from sparsearch.search.checks import number, positive_integer
from sparsearch.search.scores import Scores, draw_sequences
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import repair
from sparsearch.space.space import IntArray
from sparsearch.space.wishes import nearest

ATTEMPTS = 100
"""Children in a row that are known already after which a generation goes on with fewer."""


@dataclass(frozen=True, slots=True)
class TraceNASOptions(Options):
    """Options of `tracenas`; the defaults are the published ones.

    Attributes:
        generations: how many, the first one included.
        population: new allocations in each.
        elite: how many of the best so far are parents.
        crossover: probability that a child has two parents.
        mutation: probability of each site of a child to be moved.
        spread: standard deviation of that move, in sparsity.
        tokens: that each allocation is evaluated on, the same ones for all, rounded down to whole sequences of the
            panel (at least one, at most all).
    """

    generations: int = 50
    population: int = 30
    elite: int = 10
    crossover: float = 0.7
    mutation: float = 0.2
    spread: float = 0.3
    tokens: int = 65536

    def __post_init__(self) -> None:
        for option in ("generations", "population", "elite", "tokens"):
            positive_integer(option, getattr(self, option))
        if self.elite > self.population:
            raise ConfigError(f"searcher.elite: {self.elite} is more than searcher.population, {self.population}")
        for option in ("crossover", "mutation", "spread"):
            number(option, getattr(self, option), 0, 1)


class TraceNAS(Searcher):
    """Evolutionary search of TraceNAS, on its gradient-trace objective where a job names no other.

    Malettira et al., "TraceNAS: Zero-shot LLM Pruning via Gradient Trace Correlation" (2026). The first generation
    is the uniform allocation, or the job's `warm_start`, with random ones around it; each later one has children
    of the `elite` best so far: uniform crossover, then Gaussian moves of single sites. All allocations are
    evaluated on the same sequences, and the best one wins. Costs `generations * population` evaluations at most,
    98 million tokens by default, with objective `trace` each with a backward: 295 million in forwards.

    Deviations: genes are the sparsities of sites, in place of which blocks stay and how wide they are; the budget
    is met exactly by repair, where the published code lets a range of sizes pass. The published `spread` was made
    for a few wide layers. On a formula of 84 sites (`quadratic_problem` with interaction, 30 generations, uniform
    0.377) 0.3 ended at 0.235 to 0.254, 0.1 at 0.219 to 0.222 (three seeds).
    """

    name: ClassVar[str] = "tracenas"
    options_type: ClassVar[type[Options]] = TraceNASOptions
    objective: ClassVar[str] = "trace"
    takes_start: ClassVar[bool] = True
    options: TraceNASOptions

    @property
    def evaluations(self) -> int:
        """Sequences that it will evaluate at most, over all allocations."""
        return self.options.generations * self.options.population * self._sequences

    @property
    def _sequences(self) -> int:
        return min(max(self.options.tokens // self.problem.tokens, 1), self.problem.sequences)

    def steps(self) -> Steps:
        """One request a generation."""
        scores = Scores(draw_sequences(self.problem, self._sequences, self.rng))
        start, total = self.problem.first(), self.options.generations
        self.progress = Progress(0, total, start)
        ranked: dict[Allocation, float] = {}
        for generation in range(1, total + 1):
            fresh = self._children(ranked) if ranked else self._around(start)
            if not fresh:
                break
            ranked.update(zip(fresh, (yield from scores.means(fresh)).tolist(), strict=True))
            ranked = dict(sorted(ranked.items(), key=lambda item: item[1]))
            self.progress = Progress(generation, total, next(iter(ranked)))
        return next(iter(ranked))

    def _around(self, start: Allocation) -> list[Allocation]:
        """`start` and random allocations around it."""
        others = self._distinct(lambda: self._moved(start.array, 1.0), {start}, self.options.population - 1)
        return [start, *others]

    def _children(self, ranked: Mapping[Allocation, float]) -> list[Allocation]:
        """New allocations from the first of `ranked`."""
        elite = list(ranked)[: self.options.elite]
        return self._distinct(
            lambda: self._moved(self._crossed(elite), self.options.mutation), ranked, self.options.population
        )

    def _distinct(self, draw: Callable[[], Allocation], known: Collection[Allocation], count: int) -> list[Allocation]:
        """At most `count` draws that differ from each other and from those that are `known`."""
        found: dict[Allocation, None] = {}
        failures = 0
        while len(found) < count and failures < ATTEMPTS:
            drawn = draw()
            repeated = drawn in known or drawn in found
            failures = failures + 1 if repeated else 0
            if not repeated:
                found[drawn] = None
        return list(found)

    def _crossed(self, elite: Sequence[Allocation]) -> IntArray:
        """Each site's level from one of two parents, or all from one, `[sites]`."""
        one, other = (elite[index].array for index in self.rng.integers(len(elite), size=2))
        if self.rng.random() >= self.options.crossover:
            return one
        return np.where(self.rng.random(len(one)) < 0.5, one, other)

    def _moved(self, levels: IntArray, probability: float) -> Allocation:
        """`levels` `[sites]`, each moved with `probability` by a Gaussian in sparsity, repaired to the budget."""
        space = self.problem.space
        now = np.take_along_axis(space.sparsities, levels[:, None], axis=1)[:, 0]
        offsets = self.options.spread * self.rng.standard_normal(len(levels))
        moved = self.rng.random(len(levels)) < probability
        wished = nearest(space, now + offsets).array
        return repair(space, self.problem.limits, np.where(moved, wished, levels), self.rng)
