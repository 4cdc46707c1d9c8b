"""How well each proxy ranks allocations: Kendall's tau with the true held-out KL, over random allocations.

All allocations meet the budget and use it up. A third of them have any levels, a third lie up to `RADIUS` levels around
the uniform allocation, a third as near to the Fisher start: the further a search is, the more alike what it compares.
Tau is taken over all pairs and within each third, with 95 % bootstrap intervals over allocations.

A proxy is a sum over sites of what one pass has measured, a quadratic form of gradients, or an objective on a few
sequences of the search panel. The truth is KL on all held-out sequences; `KL, held-out halves` is the tau of one half
of them with the other, which no proxy can be expected to beat. Tokens are those for all allocations together, in
forward-token equivalents (a backward counts as two; what prefix reuse saves is not taken off).
Target: the Fisher sum, from one pass, ranks all pairs no worse than KL on one sequence, for which every one pays.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import SEED, Check, finish, parse_arguments, reference_job
from correlation import kendall
from predictors import Predictor, Sheet, predictors

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
COUNT = 201
"""Allocations, a third in each stratum."""
RADIUS = 3
PANELS = (
    "objective.panel.length=128",
    "objective.panel.calibration=128",
    "objective.panel.search=64",
    "objective.panel.heldout=64",
)
OBJECTIVES = ("kl", "perplexity", "hidden", "trace")
ANY, AROUND, BEST = STRATA = ("any levels", "around uniform", "around Fisher")
BATCH = 32


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


def rows_of(found: list[Predictor], truth: FloatArray, strata: IntArray) -> list[dict[str, Any]]:
    """A row a predictor: tau over all pairs, and within each stratum."""
    rows = []
    for each in found:
        whole = kendall(each.values, truth, spawn(SEED, "bootstrap"))
        row = {
            "proxy": each.name,
            "tokens": each.once + each.each * len(truth),
            "tau": whole.mean,
            "interval": f"{whole.low:.2f} to {whole.high:.2f}",
        }
        for number, name in enumerate(STRATA):
            part = strata == number
            inner = kendall(each.values[part], truth[part], spawn(SEED, "bootstrap"))
            row[name] = f"{inner.mean:.2f} ({inner.low:.2f} to {inner.high:.2f})"
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    return sorted(rows, key=lambda row: -np.nan_to_num(row["tau"], nan=-2.0))


def measured(job: Prepared, folder: Path, count: int) -> tuple[list[Predictor], FloatArray, IntArray]:
    """All predictors, the held-out KL `[allocations, sequences]`, and the number of each allocation's stratum."""
    supernet = build_supernet(job.model, job.build_plan, folder, workers=1)
    assert supernet.errors is not None
    switcher, panels = Switcher(job.model, supernet), job.panels
    objectives = [make_objective(name) for name in OBJECTIVES]
    searching, heldout = (
        Evaluator(job.model, switcher, panel, made, BATCH)
        for panel, made in ((panels.search, objectives), (panels.heldout, objectives[:1]))
    )
    level = uniform(job.space, job.limits)
    groups = drawn(job, {ANY: level, AROUND: level, BEST: fisher(searching, job)}, count // len(STRATA))
    levels = np.concatenate(list(groups.values()))
    values = heldout.values([Allocation.of(row) for row in levels], range(len(panels.heldout)))
    print(f"held-out KL of {len(levels)} allocations: {values.mean():.4f}", file=sys.stderr, flush=True)
    half = len(panels.search) // 2
    sheet = Sheet(levels, searching, supernet.errors, level, tuple(range(min(16, half))), tuple(range(half)))
    return list(predictors(sheet)), values, np.repeat(np.arange(len(STRATA)), count // len(STRATA))


def main() -> None:
    given = parse_arguments("correlation_sheet", __doc__, rounds=None)
    overrides = (f"budget.sparsity={TARGET}", *(("objective.panel.length=32",) if given.quick else PANELS))
    job = reference_job(*overrides, quick=given.quick)
    with tempfile.TemporaryDirectory() as folder:
        found, values, strata = measured(job, Path(folder), 24 if given.quick else COUNT)
    truth = values.mean(axis=1)
    rows = rows_of(found, truth, strata)
    halves = [Predictor("KL, held-out halves", values[:, ::2].mean(axis=1))]
    rows += rows_of(halves, values[:, 1::2].mean(axis=1), strata)
    tau = {row["proxy"]: row["tau"] for row in rows}
    behind = tau["KL, 1 sequence"] - tau["Fisher, sum"]
    facts = {each.name: each.values.tolist() for each in found}
    checks = [Check("tau of KL on 1 sequence less that of the Fisher sum", behind, 0.0)]
    finish(given, rows, checks, heldout=truth.tolist(), strata=strata.tolist(), proxies=facts)


if __name__ == "__main__":
    main()
