"""Multi-objective genetic search: what `nsga2` and `nsga3` share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sparsearch.errors import ConfigError
from sparsearch.search.base import Evaluate, Options, Problem, Progress, Searcher, Steps
from sparsearch.search.checks import positive_integer
from sparsearch.search.scores import Scores, draw_sequences
from sparsearch.search.tradeoff import Tradeoff, lowest, resource_names
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import project, repair, ripple, uniform_sparsity
from sparsearch.space.space import FloatArray, IntArray

if TYPE_CHECKING:
    from pymoo.algorithms.base.genetic import GeneticAlgorithm

STARTS = 8
"""Uniform allocations in the first generation, from the budget to the sparsest levels."""


@dataclass(frozen=True, slots=True)
class GeneticOptions(Options):
    """Options of `nsga2` and `nsga3`.

    Attributes:
        resources: what the allocations should cost little of, besides the objective; names of the space.
        generations: how many, the first one included.
        population: allocations in each, and at most on the final front.
        sequences: of the panel, the same ones for every allocation.
        finals: of the panel, on which the final front is evaluated again.
    """

    resources: tuple[str, ...] = ("params",)
    generations: int = 40
    population: int = 32
    sequences: int = 8
    finals: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "resources", resource_names(self.resources, least=1))
        for option in ("generations", "population", "sequences", "finals"):
            positive_integer(option, getattr(self, option))
        if self.population < len(self.resources) + 1:
            raise ConfigError(
                f"searcher.population: {self.population} is not allowed; give one allocation for each of the "
                f"{len(self.resources) + 1} objectives at least"
            )


class Genetic(Searcher):
    """Genetic search for the front of the objective and one or more resources.

    A variable is the level index of a site. The objective is the mean over one fixed set of sequences, the resources
    are those of the whole model. The budget is an upper bound: what breaks it is repaired by random one-level steps
    (`space.repair`), what meets it stays as it is, so that the front reaches from the budget down to the sparsest
    levels. The first generation has the start, uniform allocations between those ends and random neighbours of
    both. Offspring come from uniform crossover and steps of one level, and none equals an allocation of its parents'
    generation.

    Every allocation that was evaluated, survivor or not, counts for the front at the end. Its points are evaluated
    again on `finals` sequences, since the least of many noisy means flatters; `front` is what then is left, `best`
    its point with the least objective. Models with values that are not finite are infeasible and never on it.

    Costs `population * (generations * sequences + finals)` forwards at most; less where offspring repeat.
    """

    options_type: ClassVar[type[Options]] = GeneticOptions
    takes_start: ClassVar[bool] = True
    options: GeneticOptions

    def __init__(self, problem: Problem, options: Options, rng: np.random.Generator) -> None:
        super().__init__(problem, options, rng)
        self._tradeoff = Tradeoff(problem, self.options.resources)

    @abstractmethod
    def algorithm(self, objectives: int) -> GeneticAlgorithm:
        """The algorithm of pymoo, to be set up, with the parts of `genetic_operators.parts`."""

    @property
    def front_resources(self) -> tuple[str, ...]:
        """Those of the options."""
        return self.options.resources

    @property
    def evaluations(self) -> int:
        """Sequences that it will evaluate at most, over all allocations."""
        options, most = self.options, self.problem.sequences
        searched = options.generations * min(options.sequences, most)
        return options.population * (searched + min(options.finals, most))

    def steps(self) -> Steps:
        """One request a generation, and one for the front."""
        scores = Scores(draw_sequences(self.problem, self.options.sequences, self.rng))
        seen: dict[Allocation, float] = {}
        yield from self._evolve(scores, seen)
        self.front = yield from self._tradeoff.confirmed(seen, self.options.population, self.options.finals, self.rng)
        best = self.problem.first() if self.front is None else lowest(self.front)
        self.progress = Progress(self.progress.total, self.progress.total, best)
        return best

    def _evolve(self, scores: Scores, seen: dict[Allocation, float]) -> Generator[Evaluate, FloatArray, None]:
        """Runs the generations and notes the mean of every allocation in `seen`."""
        from sparsearch.search.genetic_operators import evaluated, level_problem

        total = self.options.generations + 1
        algorithm = self.algorithm(len(self.options.resources) + 1)
        algorithm.setup(
            level_problem(self.problem.space, len(self.options.resources) + 1), seed=int(self.rng.integers(2**31))
        )
        for generation in range(1, total):
            population = algorithm.ask()
            if population is None:  # no offspring that the generation does not have already
                self.progress = Progress(generation, total, self.progress.incumbent)
                break
            allocations = [Allocation.of(levels) for levels in population.get("X")]
            means = yield from scores.means(allocations)
            seen.update(zip(allocations, means.tolist(), strict=True))
            algorithm.tell(infills=evaluated(population, means, self._tradeoff.spent(allocations)))
            self.progress = Progress(generation, total, min(seen, key=lambda each: seen[each]))

    def first_generation(self) -> IntArray:
        """The start, uniform allocations ever sparser, and random neighbours of both, `[population, sites]`.

        The sparsest allocation is always there: its objective is the reference point of the hypervolume.
        """
        space, limits = self.problem.space, self.problem.limits
        least, most = uniform_sparsity(space, limits), float(np.nanmax(space.sparsities))
        starts = [self.problem.first()]
        starts += [
            project(space, limits, sparsity + ripple(len(space)))
            for sparsity in np.linspace(least, max(least, most), STARTS)
        ]
        levels = np.array([start.levels for start in dict.fromkeys(starts)], dtype=np.int64)
        kept = np.linspace(0, len(levels) - 1, min(len(levels), self.options.population)).round().astype(np.int64)
        levels = levels[kept]
        parents = levels[np.arange(self.options.population - len(levels)) % len(levels)]
        steps = self.rng.integers(-1, 1, size=parents.shape, endpoint=True)
        return np.concatenate([levels, self.repaired(np.clip(parents + steps, 0, space.counts - 1))])

    def repaired(self, levels: IntArray) -> IntArray:
        """`levels` `[n, sites]`, with those that break the budget repaired to it."""
        space, limits = self.problem.space, self.problem.limits
        rows = [row if limits.met(Allocation.of(row)) else repair(space, limits, row, self.rng).array for row in levels]
        return np.array(rows, dtype=np.int64).reshape(levels.shape)
