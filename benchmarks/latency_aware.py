"""Is it worth searching for milliseconds? Held-out KL at equal latency, against a search that counts parameters.

The embedded model, one thread, a table that is measured first. On one and the same supernet and with one and the
same Fisher costs the exact knapsack is solved under a bound on the latency, 40 % of the way from the fastest
allocation to dense, and under a bound on the parameters: the loosest whose answer is predicted to be no slower,
or the tightest where all are slower. Both are then run on the runtime's modules in turning order, and compared on
held-out text, sequence by sequence. Seeds draw other text. Target: the KL of the first is no higher, in the median
over seeds, at each token count.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from cells import batch, evaluations
from common import SEED, Check, finish, parse_arguments, reference_job
from hardware_table import measured, say, timed_allocations

from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.evaluation.intervals import paired_difference
from sparsearch.job.journal import Journal
from sparsearch.job.loop import SearchLoop
from sparsearch.job.prepare import Prepared
from sparsearch.model.load import load_model
from sparsearch.search import Problem, make_searcher
from sparsearch.seeds import spawn
from sparsearch.space import Allocation, Budget, SearchSpace
from sparsearch.supernet import Switcher, build_supernet

TOKENS, QUICK_TOKENS = (1, 256), (16,)
PANELS = ("objective.panel.calibration=64", "objective.panel.heldout=64", "objective.panel.search=64")
SHARE = 0.4
HALVINGS = 12
SEARCHER = "fisher"

Search = Callable[[SearchSpace, Budget], Allocation]


@dataclass(frozen=True)
class Pair:
    """What two searches found at one token count and seed."""

    tokens: int
    seed: int
    space: SearchSpace
    by_latency: Allocation
    by_params: Allocation


def pair(search: Search, space: SearchSpace, tokens: int, seed: int) -> Pair:
    """Both searches at the same predicted latency."""
    least, dense = space.least("latency"), space.cost("latency", space.dense())
    by_latency = search(space, Budget(latency=least + SHARE * (dense - least)))
    wanted = space.cost("latency", by_latency)
    low, high = space.least("params"), space.cost("params", space.dense())
    by_params = search(space, Budget(params=low))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = search(space, Budget(params=middle))
        if space.cost("latency", found) <= wanted:
            low, by_params = middle, found
        else:
            high = middle
    return Pair(tokens, seed, space, by_latency, by_params)


def searching(job: Prepared, switcher: Switcher, journal: Journal, seed: int) -> Search:
    """Searches on the search panel; what a journal knows is not computed again."""
    panel = job.panels.search
    searched = evaluations(job, switcher, journal, panel, "search")

    def search(space: SearchSpace, budget: Budget) -> Allocation:
        problem = Problem(space, budget.limits(space), len(panel), panel.length)
        return SearchLoop(make_searcher(SEARCHER, {}, problem, seed), searched).run()

    return search


def compared(job: Prepared, switcher: Switcher, each: Pair) -> dict[str, Any]:
    """Held-out KL of both, and the paired difference relative to that of the second."""
    evaluator = Evaluator(job.model, switcher, job.panels.heldout, job.objectives[:1], batch(job.panels.heldout.length))
    own, other = evaluator.values([each.by_latency, each.by_params], range(len(job.panels.heldout)))
    change, base = paired_difference(own, other, spawn(SEED, "pair")), float(other.mean())
    return {
        "KL latency": float(own.mean()), "KL params": base, "ratio": float(own.mean()) / base,
        "its interval": f"{1 + change.low / base:.3f} to {1 + change.high / base:.3f}",
    }  # fmt: skip


def main() -> None:
    given = parse_arguments("latency_aware", __doc__, rounds=3, threads=(1,))
    torch.set_num_threads(given.threads[0])
    counts, seeds = (QUICK_TOKENS, 1) if given.quick else (TOKENS, given.rounds)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, table = measured(folder / "table.json", load_model(None, device="cpu"), counts, given.quick)
        for seed in range(seeds):
            for tokens in counts:
                say(f"seed {seed}, {tokens} tokens")
                budget = f"budget={{sparsity: 0.5, hardware: {folder / 'table.json'}, tokens: {tokens}}}"
                panels = () if given.quick else PANELS
                job = reference_job(*panels, f"objective.panel.seed={seed}", budget, quick=given.quick)
                supernet = build_supernet(job.model, job.build_plan, folder / f"supernet-{seed}", workers=1)
                switcher = Switcher(job.model, supernet)
                with Journal.create_or_open(folder / f"{seed}.sqlite") as journal:
                    each = pair(searching(job, switcher, journal, seed), job.space, tokens, seed)
                figures = compared(job, switcher, each)
                switcher.restore()
                rows.append(row_of(each, figures, timed(whole, table, each, given.quick)))
    checks = [
        Check(f"{tokens} tokens: KL of the latency search / of the params search, median over seeds",
              median(row["ratio"] for row in rows if row["tokens"] == tokens), 1.0)
        for tokens in counts
    ]  # fmt: skip
    finish(given, rows, checks)


def timed(whole: Any, table: Any, each: Pair, quick: bool) -> dict[str, float]:
    found = {"dense": each.space.dense(), "latency": each.by_latency, "params": each.by_params}
    taken = timed_allocations(whole, table, each.space, found, each.tokens, 3 if quick else 9)
    return {name: median(seconds) for name, seconds in taken.items()}


def row_of(each: Pair, figures: dict[str, Any], seconds: dict[str, float]) -> dict[str, Any]:
    space, row = each.space, {"tokens": each.tokens, "seed": each.seed}
    for name, allocation in (("latency", each.by_latency), ("params", each.by_params)):
        row |= {
            f"{name} search": f"{space.sparsity(allocation):.1%}",
            f"predicted ms {name}": 1e3 * space.cost("latency", allocation),
            f"measured ms {name}": 1e3 * seconds[name],
        }
    return row | figures


if __name__ == "__main__":
    main()
