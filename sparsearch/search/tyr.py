"""Týr: a coarse-to-fine search in rounds, each around the allocation of the one before at half the step."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from sparsearch.errors import ConfigError
from sparsearch.search.base import Evaluate, Progress, Rebuild, Searcher, Steps
from sparsearch.search.checks import positive_integer
from sparsearch.search.evopress import EvoPress, EvoPressOptions
from sparsearch.space.allocation import Allocation
from sparsearch.space.window import REACH, Window


@dataclass(frozen=True, slots=True)
class TyrOptions(EvoPressOptions):
    """Options of `tyr`; the defaults but `rounds` are the published ones for models of 3B to 70B weights.

    Attributes:
        generations: number of generations of each round.
        offspring: mutants of the parent in each.
        survivors: how many candidates each stage of the selection lets through; the last one 1.
        tokens: tokens that a stage evaluates each candidate on, rounded down to whole sequences of the panel
            (at least one, at most all).
        rounds: number of rounds; the first one has steps of `2 ** (rounds - 1)` levels of the grid, the last one
            of one level. With levels every 5 % three rounds have steps of 20, 10 and 5 %.
        rebuild: whether every round but the first has a supernet of its own, built around its start.
    """

    generations: int = 50
    offspring: int = 128
    survivors: tuple[int, ...] = (16, 4, 1)
    tokens: tuple[int, ...] = (2048, 16384, 131072)
    rounds: int = 3
    rebuild: bool = False

    def __post_init__(self) -> None:
        EvoPressOptions.__post_init__(self)  # super() does not know a class that was made anew for its slots
        positive_integer("rounds", self.rounds)
        if not isinstance(self.rebuild, bool):
            raise ConfigError(f"searcher.rebuild: {self.rebuild!r} is not allowed; give true or false")


class Tyr(Searcher):
    """Coarse-to-fine evolutionary search: nine levels a site in each round, at steps that halve.

    Li et al., "Týr-the-Pruner: Structural Pruning LLMs via Global Sparsity Distribution Optimization" (2025),
    section 2.4. The first round starts uniform, or where the job's `warm_start` says. A round offers each site
    its own level and four to each side, so many steps apart, where the grid has them, and runs EvoPress's
    generations over these alone: shifts of sparsity between random sites that keep the budget met, selection in
    stages on more and more sequences. The next round does the same around the winner, at half the step.

    Deviations: the steps are those of the job's absolute grid and end with its own (published are four rounds at
    12.5 % to 1.5625 %); any two sites may exchange sparsity, repaired to the budget, instead of two of one kind,
    so that attention and FFN need not keep their shares; mutants are made as in `evopress`. The paper prunes anew
    around the winner of each round; here `rebuild` does, with what `space.accumulation` says shown to later
    blocks (published is `expectation`), and otherwise all rounds search the one supernet that the job has built.
    A block's statistics are taken at once: its MLP does not see what was pruned in its own attention.
    """

    name: ClassVar[str] = "tyr"
    options_type: ClassVar[type[EvoPressOptions]] = TyrOptions
    takes_start: ClassVar[bool] = True
    options: TyrOptions

    @property
    def rebuilds(self) -> int:
        """One before every round but the first."""
        return self.options.rounds - 1 if self.options.rebuild else 0

    @property
    def evaluations(self) -> int:
        """Sequences that it will evaluate at most, over all allocations."""
        return self.options.rounds * EvoPress(self.problem, self.options, self.rng).evaluations

    def steps(self) -> Steps:
        """The rounds, one after the other."""
        now = self.problem.first()
        total = self.options.rounds * self.options.generations
        self.progress = Progress(0, total, now)
        for number in range(self.options.rounds):
            if number > 0 and self.options.rebuild:
                yield Rebuild(now)
            now = yield from self._round(now, 2 ** (self.options.rounds - 1 - number))
            self.progress = Progress((number + 1) * self.options.generations, total, now)
        return now

    def _round(self, centre: Allocation, step: int) -> Generator[Evaluate, Any, Allocation]:
        """The best allocation that EvoPress finds around `centre`, of levels `step` apart."""
        problem, before = self.problem, self.progress
        window = Window.around(problem.space, centre, step, REACH)
        inner = replace(
            problem,
            space=window.space(problem.space),
            limits=window.limits(problem.limits),
            errors=None,
            start=window.inner(centre),
        )
        search = EvoPress(inner, self.options, self.rng)
        while isinstance(request := search.ask(), Evaluate):
            values = yield replace(request, allocations=tuple(map(window.outer, request.allocations)))
            search.tell(values)
            assert search.progress.incumbent is not None
            incumbent = window.outer(search.progress.incumbent)
            self.progress = Progress(before.done + search.progress.done, before.total, incumbent)
        return window.outer(search.best)
