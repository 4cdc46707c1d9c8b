"""How many tokens each searcher needs: held-out objective against forward-token equivalents, on one supernet.

Every searcher sees the same supernet, the same search panel and the same budget. A backward counts as two forwards;
what prefix reuse saves is not taken off, and one pass of the dense model over the panel, for the teacher, is left out
for everybody. Held-out text steers nothing: it measures the allocations that a searcher stood by. EvoPress runs its
default schedule (400 generations of 64; 8/2/1 survivors; 2048, 16384 and 65536 tokens) and its super-fast one (400 of
16; 1/1; 512 and 8192), tokens divided by --factor, at least one sequence.

Every run is a journal below the results folder: a benchmark that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from cells import built, cell_parser, evaluations, identity, journal_of, prepare_model, spread
from common import RESULTS, Check, Row, finish, table
from efficiency import Result, draw, duels, summary

from sparsearch.evaluation.intervals import bootstrap_mean
from sparsearch.job.loop import SearchLoop
from sparsearch.job.prepare import Prepared
from sparsearch.search import make_searcher
from sparsearch.seeds import spawn
from sparsearch.supernet import Supernet, Switcher

WORK = RESULTS / "search_efficiency"
LEADS = {"evopress": 20, "evopress-fast": 4}
"""How many times fewer tokens `quadratic` is to need for the final value of these."""
ALL = 1e6
"""Share of a rival's tokens that stands for never reaching it."""
LOWER = 0.05
"""How much lower it is to stand than `evopress` at equal tokens."""
ELSEWHERE = 0.05
"""Share of its time that may go elsewhere than into forwards, backwards and its inner problem."""


def searchers(factor: float, quick: bool, generations: int = 400) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name in the table to searcher and options."""
    generations = 3 if quick else generations
    default = {"generations": generations, "offspring": 64 if not quick else 8, "survivors": [8, 2, 1]}
    fast = {"generations": generations, "offspring": 16 if not quick else 4, "survivors": [1, 1]}
    return {
        "evopress": ("evopress", default | {"tokens": [max(1, int(n / factor)) for n in (2048, 16384, 65536)]}),
        "evopress-fast": ("evopress", fast | {"tokens": [max(1, int(n / factor)) for n in (512, 8192)]}),
        "random": ("random", {"evaluations": 6 if quick else 200, "sequences": 4 if quick else 8, "radius": 4}),
        "fisher": ("fisher", {"sequences": 4 if quick else 64}),
        "quadratic": ("quadratic", {"start": 4, "sequences": 2, "most": 4} if quick else {}),
    }


def run(
    prepared: Prepared, supernet: Supernet, name: str, kind: str, options: dict[str, Any], seed: int, work: Path = WORK
) -> Result:
    """One searcher to its end, resumed from its journal where there is one, and its held-out curve."""
    target = float(prepared.config.budget["sparsity"])
    switcher = Switcher(prepared.model, supernet)
    panels = prepared.panels
    with journal_of(work, identity(prepared, kind, options, seed)) as journal:
        done = journal.fact("result")
        if done is not None:
            return Result(**(done | {"curve": [tuple(point) for point in done["curve"]]}))
        searched = evaluations(prepared, switcher, journal, panels.search, "search")
        loop = SearchLoop(make_searcher(kind, options, prepared.problem(supernet), seed), searched)
        begun, known = time.perf_counter(), journal.totals()
        loop.run()
        total = time.perf_counter() - begun
        measured = evaluations(prepared, switcher, journal, panels.heldout, "heldout")
        rows = tuple(range(len(panels.heldout)))
        shown = spread(loop.milestones)
        table = measured.values(tuple(milestone.allocation for milestone in shown), rows)
        interval = bootstrap_mean(table[-1], spawn(seed, "bootstrap"))
        spent = searched.evaluator.spent
        seconds = {
            "total": total, "forward": spent.forward_seconds, "switch": spent.switch_seconds,
            "searcher": loop.searcher_seconds,
        }  # fmt: skip
        curve = [(milestone.tokens, float(values.mean())) for milestone, values in zip(shown, table, strict=True)]
        result = Result(
            prepared.model.name, target, name, seed, curve, interval.mean, interval.low, interval.high, loop.tokens,
            {} if known else seconds,
        )  # fmt: skip
        journal.set_fact("result", result.__dict__)
        switcher.restore()
        return result


def checks(results: Sequence[Result], found: Sequence[Row]) -> list[Check]:
    """What `quadratic` is to show against EvoPress."""
    verdicts = []
    for row in found:
        where = f"{row['rival']}, {row['model']} {row['target']}"
        if row["searcher"] != "quadratic" or row["rival"] not in LEADS:
            continue
        share = ALL if row["share"] == "never" else row["share"]
        verdicts.append(Check(f"share of the tokens of {where}", share, 1 / LEADS[row["rival"]]))
        verdicts.append(Check(f"seeds that never reach {where}", row["never reached"], 0))
        if row["rival"] == "evopress":
            verdicts.append(Check(f"value at 1/20 of the tokens, {where}", 1 - row["lower at 1/20"], 1 - LOWER))
            verdicts.append(Check(f"value at equal tokens, {where}", 1 - row["lower at equal tokens"], 1 - LOWER))
    shares = [r.elsewhere for r in results if r.searcher == "quadratic" and "total" in r.seconds]
    return [*verdicts, Check("time elsewhere, quadratic", median(shares), ELSEWHERE)] if shares else verdicts


def main() -> None:
    parser = cell_parser(__doc__, WORK, RESULTS / "search_efficiency.json")
    parser.add_argument(
        "--factor", type=float, default=32, help="published tokens are divided by it (default %(default)s)"
    )
    parser.add_argument(
        "--generations", type=int, default=400, help="where EvoPress's schedules are cut off (default %(default)s)"
    )
    parser.add_argument("--only", nargs="+", help="these searchers alone")
    given = parser.parse_args()
    targets, seeds = (given.targets[:1], 1) if given.quick else (given.targets, given.seeds)
    if given.threads:
        torch.set_num_threads(given.threads)
    results = []
    for name in given.model or ["reference"]:
        for target in targets:
            prepared = prepare_model(name, target, given.quick, given.length)
            supernet = built(prepared, given.work)
            for label, (kind, options) in searchers(given.factor, given.quick, given.generations).items():
                for seed in range(seeds) if not given.only or label in given.only else ():
                    results.append(run(prepared, supernet, label, kind, options, seed, given.work))
                    print(json.dumps({k: v for k, v in results[-1].__dict__.items() if k != "curve"}), flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    draw(results, given.out.with_suffix(".png"))
    found = duels(results)
    curves = [asdict(result) for result in results]
    print(table(found))
    finish(given, summary(results), checks(results, found), duels=found, curves=curves)


if __name__ == "__main__":
    main()
