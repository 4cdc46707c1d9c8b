"""Every searcher and every allocator on one supernet at equal tokens: held-out objective, perplexity, tokens, seconds.

All see the same supernet, the same search panel and the same limits, and may spend the same --tokens: of forwards, a
backward counted as two; what prefix reuse saves is not taken off, and one pass of the dense model over the panel, for
the teacher, is left out for everybody. An allocator spends what it takes. A searcher whose cost follows from an option
gets the largest value whose planned cost fits (`SCALINGS`); one that stops by itself, or plans too little, is cut off:
what it stood by at the budget counts, and a request that would go beyond it is as good as not made. One that cannot
answer within the budget, or without what the pruner does not measure, has no figures.

Held-out text steers nothing: it measures the answers, with bootstrap intervals over sequences. A row is the median
over seeds of the mean and of the interval's ends, beside the range of the means.

Every cell is a journal below the results folder: a benchmark that was stopped goes on where it was.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from cells import built, cell_parser, evaluations, identity, journal_of, prepare_model
from common import RESULTS, Check, finish
from ranking import Cell, draw, ranked, table_rows

from sparsearch.job.comparison import Candidate, compare
from sparsearch.job.journal import Journal
from sparsearch.job.loop import Milestone, SearchLoop
from sparsearch.job.prepare import Prepared
from sparsearch.job.supernets import search_totals
from sparsearch.search import ALLOCATORS, SEARCHERS, Problem, Progress, Searcher, make_searcher
from sparsearch.search.curves import probed_levels
from sparsearch.search.greedy import Greedy
from sparsearch.space import Allocation
from sparsearch.space.repair import uniform
from sparsearch.supernet import Supernet, Switcher

WORK = RESULTS / "leaderboard"
TOKENS = 1e6
QUICK_TOKENS = 8e3
QUICK_TARGETS = ("mlp.down_proj",)
FACTOR = 32
"""Published tokens of a stage of the selection are divided by it: the models here are small."""
MOST = 2**16
"""Largest value that an option is given."""
OURS = "quadratic"


@dataclass(frozen=True)
class Scaling:
    """How a searcher is fitted to a budget of tokens.

    Attributes:
        option: a positive integer that its planned cost grows with, or levels off with.
        fixed: the options that are not as by default.
    """

    option: str
    fixed: Mapping[str, Any] = field(default_factory=dict)


def _published(*tokens: int) -> list[int]:
    return [max(1, count // FACTOR) for count in tokens]


SCALINGS = {
    "best_allocator": Scaling("sequences"),
    "random": Scaling("evaluations", {"sequences": 8, "radius": 4}),
    "evopress": Scaling("generations", {"tokens": _published(2048, 16384, 65536)}),
    "tyr": Scaling("generations", {"tokens": _published(2048, 16384, 131072)}),
    "tpe": Scaling("trials"),
    "gp": Scaling("trials"),
    "cmaes": Scaling("trials"),
    "knapsack": Scaling("sequences", {"curves": "one_at_a_time"}),  # from Fisher costs it is `fisher`
    "rd": Scaling("sequences"),
    "greedy": Scaling("sequences", {"candidates": 2, "levels": 2}),
    "equilibrium": Scaling("sequences", {"rounds": 3}),
    "differentiable": Scaling("steps"),
    "nsga2": Scaling("generations", {"finals": 16}),
    "nsga3": Scaling("generations", {"finals": 16}),
    "nas": Scaling("evaluations"),
    "progressive": Scaling("rounds"),
    "tracenas": Scaling("generations", {"tokens": _published(65536)[0]}),
}
"""By name. Those that are not listed run with their defaults and are cut off."""


class OutOfTokens(Exception):
    """Ends a search that has gone beyond its budget."""


@dataclass
class Cutoff:
    """A loop's report that stops it beyond `budget` tokens; `used` are those of the requests within it."""

    budget: float
    used: float = 0.0

    def __call__(self, progress: Progress, tokens: float) -> None:
        if tokens > self.budget:
            raise OutOfTokens
        self.used = tokens


def fitted(kind: str, problem: Problem, budget: float) -> dict[str, Any] | None:
    """The options of a searcher for so many tokens.

    None where its least planned cost is above them, or where it needs output errors that the supernet does not have.
    """
    if SEARCHERS[kind].needs_errors and problem.errors is None:
        return None
    if kind not in SCALINGS:
        return {}
    scaling = SCALINGS[kind]

    def cost(value: int) -> float:
        return planned(kind, {**scaling.fixed, scaling.option: value}, problem)

    value = largest(cost, budget)
    return None if value is None else {**scaling.fixed, scaling.option: value}


def largest(cost: Callable[[int], float], budget: float) -> int | None:
    """The positive integer that makes most of `budget`: of those with the largest `cost` within it the least one.

    None where 1 is above it already. `cost` must never fall.
    """
    values = range(1, MOST + 1)
    fitting = bisect_right(values, budget, key=cost)
    return None if fitting == 0 else values[bisect_left(values, cost(fitting), key=cost)]


def planned(kind: str, options: dict[str, Any], problem: Problem) -> float:
    """Tokens that a searcher means to spend, at most."""
    searcher = make_searcher(kind, options, problem, 0)
    forwards = _greedy_forwards(searcher) if isinstance(searcher, Greedy) else searcher.evaluations
    assert forwards is not None, f"{kind} does not say what it costs"
    return float(forwards) * problem.tokens


def _greedy_forwards(searcher: Greedy) -> int:
    """The curves, and a step for each level between the dense model and the uniform allocation."""
    problem, options = searcher.problem, searcher.options
    probed = sum(map(len, probed_levels(problem.space, options.levels)))
    steps = sum(uniform(problem.space, problem.limits).levels)
    return (1 + probed + options.candidates * steps) * min(options.sequences, problem.sequences)


def run(
    prepared: Prepared, supernet: Supernet, kind: str, options: dict[str, Any], seed: int, tokens: float, work: Path
) -> Cell:
    """One cell, resumed from its journal where there is one."""
    with journal_of(work, [*identity(prepared, kind, options, seed), "leaderboard", tokens]) as journal:
        done = journal.fact("result")
        if done is None:
            switcher = Switcher(prepared.model, supernet)
            try:
                searcher = make_searcher(kind, options, prepared.problem(supernet), seed)
                done = asdict(_measured(prepared, switcher, journal, searcher, tokens, seed))
            finally:
                switcher.restore()
            journal.set_fact("result", done)
    return Cell(**done)


def _measured(
    prepared: Prepared, switcher: Switcher, journal: Journal, searcher: Searcher, tokens: float, seed: int
) -> Cell:
    panels = prepared.panels
    cutoff = Cutoff(tokens)
    searched = evaluations(prepared, switcher, journal, panels.search, "search")
    loop = SearchLoop(searcher, searched, cutoff)
    with suppress(OutOfTokens):
        loop.run()
    answer = standing(loop.milestones, tokens)
    paid = (search_totals(journal), loop.sensitivities, loop.statistics)
    seconds = loop.searcher_seconds + sum(each.seconds for each in paid)
    cell = empty_cell(prepared, searcher.name, seed, cutoff.used, seconds)
    if answer is None:
        return cell
    heldout = evaluations(prepared, switcher, journal, panels.heldout, "heldout", len(prepared.objectives))
    row = compare([Candidate(searcher.name, answer)], heldout, prepared.space, seed)["rows"][0]
    return replace(cell, objective=row["objective"], perplexity=row["perplexity"])


def standing(milestones: Sequence[Milestone], tokens: float) -> Allocation | None:
    """What a searcher stood by after so many tokens."""
    return next((each.allocation for each in reversed(milestones) if each.tokens <= tokens), None)


def empty_cell(prepared: Prepared, name: str, seed: int, tokens: float = 0.0, seconds: float = 0.0) -> Cell:
    """A cell without an answer."""
    target = float(prepared.config.budget["sparsity"])
    return Cell(prepared.model.name, target, name, name in ALLOCATORS, seed, tokens, seconds)


def cells(
    prepared: Prepared, supernet: Supernet, names: Iterable[str], seeds: int, tokens: float, work: Path
) -> Iterator[Cell]:
    """The cells of one model and target, seed by seed, so that a run that is stopped has compared them all."""
    problem = prepared.problem(supernet)
    for seed in range(seeds):
        for name in names:
            options = fitted(name, problem, tokens)
            if options is None:
                yield empty_cell(prepared, name, seed)
            else:
                yield run(prepared, supernet, name, options, seed, tokens, work)


def checks(found: Sequence[Cell], tokens: float) -> list[Check]:
    """Nobody has spent more than the others may; `quadratic` is to be no worse than any other."""
    verdicts = [Check("largest share of the budget that was spent", max(cell.tokens for cell in found) / tokens, 1.0)]
    for (model, target), rows in ranked(found).items():
        finals = {row.searcher: row.objective["mean"] for row in rows if row.objective is not None}
        own = finals.pop(OURS, None)
        if own is not None and finals:
            where = f"{Path(model).name} {target:.0%}"
            verdicts.append(Check(f"{OURS} over the best other one, {where}", own / min(finals.values()), 1.0))
    return verdicts


def main() -> None:
    parser = cell_parser(__doc__, WORK, RESULTS / "leaderboard.json")
    parser.add_argument("--tokens", type=float, help=f"that each may spend (default {TOKENS:.0e})")
    parser.add_argument("--only", nargs="+", choices=list(SEARCHERS), metavar="NAME", help="these alone")
    given = parser.parse_args()
    targets, seeds = (given.targets[:1], 1) if given.quick else (given.targets, given.seeds)
    tokens = given.tokens or (QUICK_TOKENS if given.quick else TOKENS)
    if given.threads:
        torch.set_num_threads(given.threads)
    found = []
    for name in given.model or ["reference"]:
        for target in targets:
            prepared = prepare_model(name, target, given.quick, given.length, QUICK_TARGETS)
            for cell in cells(
                prepared, built(prepared, given.work), given.only or SEARCHERS, seeds, tokens, given.work
            ):
                found.append(cell)
                print(json.dumps(asdict(cell)), flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    draw(found, given.out.with_suffix(".png"))
    finish(given, table_rows(found), checks(found, tokens), tokens=tokens, cells=[asdict(cell) for cell in found])


if __name__ == "__main__":
    main()
