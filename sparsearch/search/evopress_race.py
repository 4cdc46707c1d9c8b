"""EvoPress with a race in place of its later selection stages."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sparsearch.errors import ConfigError
from sparsearch.search.base import Evaluate, Options, Problem
from sparsearch.search.checks import positive_integer, positive_integers
from sparsearch.search.evopress import Evolution, EvolutionOptions
from sparsearch.search.racing import race
from sparsearch.space.allocation import Allocation
from sparsearch.space.space import FloatArray


@dataclass(frozen=True, slots=True)
class EvoPressRaceOptions(EvolutionOptions):
    """Options of `evopress+race`.

    Attributes:
        generations: number of generations.
        offspring: mutants of the parent in each.
        starters: how many of them start in the race: those that are best on one sequence.
        blocks: sequences that each look of the race adds.
        alpha: error probability of a race; see `racing.race` for which errors it bounds.
    """

    generations: int = 400
    offspring: int = 16
    starters: int = 4
    blocks: tuple[int, ...] = (4, 4, 8)
    alpha: float = 0.5

    def __post_init__(self) -> None:
        EvolutionOptions.__post_init__(self)
        positive_integer("starters", self.starters)
        object.__setattr__(self, "blocks", positive_integers("blocks", self.blocks))
        number = isinstance(self.alpha, int | float) and not isinstance(self.alpha, bool)
        if not number or not 0 < self.alpha <= 0.5:
            raise ConfigError(f"searcher.alpha: {self.alpha!r} is not allowed; give a number above 0 and at most 0.5")


class EvoPressRace(Evolution):
    """EvoPress with a race for its last stages: few sequences where the gain is clear, more where it is not.

    Mutations are those of `evopress`, and so is the first stage, on one sequence: a single value says nothing
    about its own noise, so no error can be stated there, but its ranking is by far the cheapest information.
    The best of it race against the parent.

    The sequences of the panel are put into a random order once; every stage goes on in it where the one before
    ended, round and round. Racing every generation on the same first sequences would make the parent's values
    free, but the parent would be the minimum of thousands of mutants on these few sequences and fit them
    alone. So each race sees sequences that chose neither its starters nor its parent, until the whole panel has
    been used, at the price of the parent's values on them.
    """

    name: ClassVar[str] = "evopress+race"
    options_type: ClassVar[type[Options]] = EvoPressRaceOptions
    options: EvoPressRaceOptions

    def __init__(self, problem: Problem, options: Options, rng: np.random.Generator) -> None:
        super().__init__(problem, options, rng)
        self._order: list[int] = rng.permutation(problem.sequences).tolist()

    @property
    def evaluations(self) -> int:
        """Sequences that it will evaluate at most, over all allocations."""
        options = self.options
        screened = options.offspring if options.offspring > options.starters else 0
        raced = min(options.offspring, options.starters) + 1
        return options.generations * (screened + raced * min(sum(options.blocks), self.problem.sequences))

    def _select(self, parent: Allocation, candidates: list[Allocation]) -> Generator[Evaluate, FloatArray, Allocation]:
        """The winner of a race of the best on one sequence, each on the next sequences."""
        if len(candidates) > self.options.starters:
            values = yield Evaluate(tuple(candidates), (self._order[0],))
            ranking = np.argsort(values[:, 0], kind="stable")
            candidates = [candidates[index] for index in ranking[: self.options.starters]]
            self._turn(1)
        winner, used = yield from race(parent, candidates, self._order, self.options.blocks, self.options.alpha)
        self._turn(used)
        return winner

    def _turn(self, used: int) -> None:
        """Puts the sequences that were used last in line."""
        self._order = self._order[used:] + self._order[:used]
