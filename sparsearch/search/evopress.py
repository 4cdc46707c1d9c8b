"""EvoPress: a (1+λ) evolutionary search with level switches and selection in stages."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sparsearch.errors import ConfigError
from sparsearch.search.base import Evaluate, Options, Progress, Searcher, Steps
from sparsearch.search.checks import positive_integer, positive_integers
from sparsearch.search.moves import level_switch
from sparsearch.search.scores import draw_sequences
from sparsearch.space.allocation import Allocation
from sparsearch.space.space import FloatArray

ATTEMPTS = 100  # mutations in a row without a new offspring after which a generation goes on with fewer
MOST_SWITCHES = 3


@dataclass(frozen=True, slots=True)
class EvoPressOptions(Options):
    """Options of `evopress`; the defaults are the published schedule for 7B models.

    Attributes:
        generations: number of generations.
        offspring: mutants of the parent in each.
        survivors: how many candidates each stage of the selection lets through; the last one 1.
        tokens: tokens that a stage evaluates each candidate on, rounded down to whole sequences of the panel
            (at least one, at most all).
    """

    generations: int = 400
    offspring: int = 64
    survivors: tuple[int, ...] = (8, 2, 1)
    tokens: tuple[int, ...] = (2048, 16384, 65536)

    def __post_init__(self) -> None:
        positive_integer("generations", self.generations)
        positive_integer("offspring", self.offspring)
        for option in ("survivors", "tokens"):
            object.__setattr__(self, option, positive_integers(option, getattr(self, option)))
        if len(self.survivors) != len(self.tokens):
            raise ConfigError(
                f"searcher.tokens: {len(self.tokens)} stages, but searcher.survivors has {len(self.survivors)}; "
                "give both one number a stage"
            )
        if self.survivors[-1] != 1 or list(self.survivors) != sorted(self.survivors, reverse=True):
            raise ConfigError(
                f"searcher.survivors: {list(self.survivors)} is not allowed; numbers must not grow and must end in 1"
            )


class EvoPress(Searcher):
    """Evolutionary search of EvoPress: level switches, selection in stages on more and more sequences.

    Sieberling et al., "EvoPress: Towards Optimal Dynamic Model Compression via Evolutionary Search" (2024).
    The parent starts uniform, or where the job's `warm_start` says. Each generation makes distinct mutants of it
    by min(U{1,2,3}, U{1,2,3}) level switches; each stage evaluates all candidates left on the same fresh random
    sequences and keeps the best; the parent joins the last stage, whose winner is the next parent. Other than in
    the published code, levels are absolute, so a switch is repaired to the budget (`moves.level_switch`), a mutant
    is never the parent itself, and a stage that would let all its candidates through is skipped.
    """

    name: ClassVar[str] = "evopress"
    options_type: ClassVar[type[Options]] = EvoPressOptions
    takes_start: ClassVar[bool] = True
    options: EvoPressOptions

    @property
    def stages(self) -> list[tuple[int, int]]:
        """(survivors, sequences) of each stage of the selection."""
        problem = self.problem
        sequences = [min(max(tokens // problem.tokens, 1), problem.sequences) for tokens in self.options.tokens]
        return list(zip(self.options.survivors, sequences, strict=True))

    @property
    def evaluations(self) -> int:
        """Sequences that it will evaluate at most, over all allocations."""
        candidates, total = self.options.offspring, 0
        for survivors, sequences in self.stages[:-1]:
            total += candidates * sequences if candidates > survivors else 0
            candidates = min(candidates, survivors)
        return self.options.generations * (total + (candidates + 1) * self.stages[-1][1])

    def steps(self) -> Steps:
        """One request a stage, until the generations are over or the parent has no mutants."""
        parent = self.problem.first()
        self.progress = Progress(0, self.options.generations, parent)
        for generation in range(1, self.options.generations + 1):
            offspring = self._offspring(parent)
            if not offspring:
                break
            parent = yield from self._select(parent, offspring)
            self.progress = Progress(generation, self.options.generations, parent)
        return parent

    def _offspring(self, parent: Allocation) -> list[Allocation]:
        """Mutants that differ from `parent` and from each other."""
        found: dict[Allocation, None] = {}
        failures = 0
        while len(found) < self.options.offspring and failures < ATTEMPTS:
            mutant = self._mutate(parent)
            known = mutant == parent or mutant in found
            failures = failures + 1 if known else 0
            if not known:
                found[mutant] = None
        return list(found)

    def _mutate(self, parent: Allocation) -> Allocation:
        levels = parent.array
        for _ in range(self.rng.integers(1, MOST_SWITCHES, size=2, endpoint=True).min()):
            levels = level_switch(self.problem.space, self.problem.limits, levels, self.rng)
        return Allocation.of(levels)

    def _select(self, parent: Allocation, candidates: list[Allocation]) -> Generator[Evaluate, FloatArray, Allocation]:
        """The winner of all stages; `parent` takes part in the last one."""
        for stage, (survivors, size) in enumerate(self.stages, start=1):
            if stage == len(self.stages):
                candidates = [*candidates, parent]
            if len(candidates) <= survivors:
                continue
            values = yield Evaluate(tuple(candidates), draw_sequences(self.problem, size, self.rng))
            ranking = np.argsort(values.mean(axis=1), kind="stable")
            candidates = [candidates[index] for index in ranking[:survivors]]
        return candidates[0]
