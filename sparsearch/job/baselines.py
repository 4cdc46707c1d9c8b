"""The allocators that every report compares with, and the best of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sparsearch.job.comparison import Candidate
from sparsearch.job.loop import JournaledEvaluations, SearchLoop
from sparsearch.search import ALLOCATORS, SEARCHERS, Problem, Searcher, make_searcher
from sparsearch.search.allocators.best import can_answer
from sparsearch.search.allocators.statistic import StatisticAllocator
from sparsearch.space.statistics import STATISTICS

CHOSEN_ON = 32
"""Sequences of the search panel that the best allocator is chosen on."""


def allocator_rows(problem: Problem, evaluations: JournaledEvaluations, seed: int) -> list[Candidate]:
    """A row for each allocator but uniform, then the best one again, under the name `best allocator: NAME`.

    Those take part, with their default options, that look at no sequence more than once (a forward, or a forward
    and a backward), and need no errors where the supernet has none, no sensitivities where the objective has none.
    The best is chosen on the first sequences of the search panel, uniform included: held-out text plays no part.
    """
    members = [name for name in ALLOCATORS if _takes_part(SEARCHERS[name], problem)]
    rows = [_row(make_searcher(name, {}, problem, seed), evaluations) for name in members]
    sequences = tuple(range(min(CHOSEN_ON, problem.sequences)))
    means = evaluations.values(tuple(row.allocation for row in rows), sequences).mean(axis=1)
    best = rows[int(np.argmin(means))]
    others = [row for row in rows if row.name != "uniform"]
    return [*others, replace(best, name=f"best allocator: {best.name}")]


def _takes_part(kind: type[Searcher], problem: Problem) -> bool:
    if issubclass(kind, StatisticAllocator) and STATISTICS[kind.statistic].forwards_per_block:
        return False
    return can_answer(problem, kind)


def _row(allocator: Searcher, evaluations: JournaledEvaluations) -> Candidate:
    loop = SearchLoop(allocator, evaluations)
    found = loop.run()
    paid = (loop.sensitivities, loop.statistics)
    seconds, tokens = sum(each.seconds for each in paid), sum(each.forward_tokens for each in paid)
    return Candidate(allocator.name, found, seconds, tokens)
