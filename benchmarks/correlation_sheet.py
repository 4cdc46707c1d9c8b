"""How well each proxy ranks allocations: Kendall's tau with the true held-out KL, over random allocations.

All allocations meet the budget and use it up. A third of them have any levels, a third lie up to `RADIUS` levels around
the uniform allocation, a third as near to the Fisher start: the further a search is, the more alike what it compares.
Tau is taken over all pairs and within each third, with 95 % bootstrap intervals over allocations.

A proxy is what an allocator measures, added up over sites; a quadratic form of gradients; or an objective on a few
sequences of the search panel. The truth is KL on all held-out sequences; `KL, held-out halves` is the tau of one half
of them with the other. Tokens are those for all allocations together, in forward-token equivalents (a backward counts
as two; what prefix reuse saves is not taken off; the dense model's own passes, for the teacher, are left out).
Target: `fisher`, from one pass, ranks all pairs no worse than KL on one sequence, for which every one pays.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from cells import batch
from common import SEED, Check, finish, parse_arguments, reference_job
from correlation import kendall
from predictors import Predictor, Sheet, TraceTogether, predictors

from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.evaluation.objectives import make_objective
from sparsearch.evaluation.sensitivity import Sensitivity
from sparsearch.job.prepare import Prepared
from sparsearch.search.surrogate import fisher_costs
from sparsearch.seeds import spawn
from sparsearch.space import Allocation
from sparsearch.space.repair import cheapest, repair, uniform
from sparsearch.space.space import FloatArray, IntArray
from sparsearch.supernet import Switcher, build_supernet

TARGET = 0.6
CEILING = "KL, held-out halves"
COUNT = 201
"""Allocations, a third in each stratum."""
RADIUS = 3
PANELS = (
    "objective.panel.length=128",
    "objective.panel.calibration=128",
    "objective.panel.search=64",
    "objective.panel.heldout=128",
)
OBJECTIVES = ("kl", "perplexity", "hidden", "trace")
ANY, AROUND, BEST = STRATA = ("any levels", "around uniform", "around Fisher")


def drawn(job: Prepared, centres: Mapping[str, Allocation], count: int) -> dict[str, IntArray]:
    """Stratum to distinct level indices `[count, sites]`, repaired to the budget."""
    space, limits = job.space, job.limits
    found = {}
    for name, centre in centres.items():
        rng = spawn(SEED, "allocations", name)
        low, high = np.zeros(len(space), dtype=np.int64), space.counts - 1
        if name != ANY:
            low, high = np.maximum(centre.array - RADIUS, low), np.minimum(centre.array + RADIUS, high)
        rows: dict[Allocation, None] = {}
        while len(rows) < count:
            rows[repair(space, limits, rng.integers(low, high, endpoint=True), rng)] = None
        found[name] = np.array([row.levels for row in rows])
    return found


def fisher(evaluator: Evaluator, job: Prepared) -> Allocation:
    """The Fisher start, from gradients on the second half of the search panel, which no predictor looks at."""
    half = range(len(evaluator.panel) // 2, len(evaluator.panel))
    found = Sensitivity(evaluator).at(job.space.dense(), half, gradient=False, draws=1)
    return cheapest(job.space, job.limits, fisher_costs(found))


def row_of(proxy: Predictor, truth: FloatArray, strata: IntArray) -> dict[str, Any]:
    """Tau over all pairs, and within each stratum."""
    whole = kendall(proxy.values, truth, spawn(SEED, "bootstrap"))
    row = {
        "proxy": proxy.name,
        "tokens": proxy.once + proxy.each * len(truth),
        "tau": whole.mean,
        "interval": f"{whole.low:.2f} to {whole.high:.2f}",
    }
    for number, name in enumerate(STRATA):
        part = strata == number
        inner = kendall(proxy.values[part], truth[part], spawn(SEED, "bootstrap"))
        row[name] = f"{inner.mean:.2f} ({inner.low:.2f} to {inner.high:.2f})"
    print(row, file=sys.stderr, flush=True)
    return row


def measured(job: Prepared, folder: Path, count: int) -> tuple[Iterator[Predictor], FloatArray, IntArray]:
    """The predictors one by one, the held-out KL `[allocations, sequences]`, and the stratum of each allocation."""
    supernet = build_supernet(job.model, job.build_plan, folder, workers=1)
    switcher, panels = Switcher(job.model, supernet), job.panels
    objectives = [*map(make_objective, OBJECTIVES), TraceTogether()]
    searching, heldout = (
        Evaluator(job.model, switcher, panel, made, batch(panel.length))
        for panel, made in ((panels.search, objectives), (panels.heldout, objectives[:1]))
    )
    level = uniform(job.space, job.limits)
    start = fisher(searching, job)
    groups = drawn(job, {ANY: level, AROUND: level, BEST: start}, count // len(STRATA))
    levels = np.concatenate(list(groups.values()))
    values = heldout.values([Allocation.of(row) for row in levels], range(len(panels.heldout)))
    print(f"held-out KL of {len(levels)} allocations: {values.mean():.4f}", file=sys.stderr, flush=True)
    half = len(panels.search) // 2
    centres = {"uniform": level, "the Fisher start": start}
    sequences, sensed = tuple(range(min(16, half))), tuple(range(half))
    found = predictors(Sheet(levels, searching, job.problem(supernet), centres, sequences, sensed))
    return found, values, np.repeat(np.arange(len(STRATA)), count // len(STRATA))


def main() -> None:
    given = parse_arguments("correlation_sheet", __doc__, rounds=None)
    overrides = (f"budget.sparsity={TARGET}", *(("objective.panel.length=32",) if given.quick else PANELS))
    job = reference_job(*overrides, quick=given.quick)
    rows, values = [], {}
    with tempfile.TemporaryDirectory() as folder:
        proxies, heldout, strata = measured(job, Path(folder), 24 if given.quick else COUNT)
        truth = heldout.mean(axis=1)
        for proxy in proxies:
            rows.append(row_of(proxy, truth, strata))
            values[proxy.name] = proxy.values.tolist()
    rows.sort(key=lambda row: -np.nan_to_num(row["tau"], nan=-2.0))
    rows.append(row_of(Predictor(CEILING, heldout[:, ::2].mean(axis=1)), heldout[:, 1::2].mean(axis=1), strata))
    tau = {row["proxy"]: row["tau"] for row in rows}
    behind = tau["KL, 1 sequence"] - tau["score of fisher"]
    checks = [Check("tau of KL on 1 sequence less that of fisher's score", behind, 0.0)]
    finish(given, rows, checks, heldout=truth.tolist(), strata=strata.tolist(), proxies=values)


if __name__ == "__main__":
    main()
