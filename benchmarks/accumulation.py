"""What error accumulation brings: held-out KL of the same allocations on supernets that were built with and without.

While a block is calibrated it sees of the blocks before it

- nothing: their dense outputs (`none`);
- `uniform` or `expectation`: the mean of the outputs of a site's variants, equal weights or those of
  Týr-the-Pruner's Eq. 5, over `all` levels or `around` the allocation, nine levels a site;
- `one level`: the very variants of the allocation, which no supernet for a search can know in advance.

Two allocations a target, the same ones on all supernets: uniform, and what the allocator `fisher` finds on the first
supernet without accumulation. Held-out text is the same throughout, the calibration text differs between seeds.
Target: `expectation` around the allocation is no worse than `none`, in the median over all cases.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import SEED, Check, finish, parse_arguments, reference_job

from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.evaluation.intervals import bootstrap_mean, paired_difference
from sparsearch.job.journal import Journal
from sparsearch.job.loop import JournaledEvaluations, SearchLoop
from sparsearch.job.prepare import Prepared
from sparsearch.model.panel import Panel
from sparsearch.search import Problem, make_searcher
from sparsearch.seeds import spawn
from sparsearch.space import Allocation, Budget
from sparsearch.space.repair import uniform
from sparsearch.space.space import FloatArray
from sparsearch.supernet import Mixture, Supernet, Switcher, build_supernet
from sparsearch.supernet.accumulation import Shown

TARGETS = (0.6, 0.7, 0.8)
PANELS = ("objective.panel.calibration=64", "objective.panel.heldout=64", "objective.panel.search=64")
NONE, AROUND = "none", "expectation, around"
ACCUMULATIONS = (NONE, "uniform, all", "expectation, all", "uniform, around", AROUND, "one level")
BATCH = 16


@dataclass(frozen=True)
class Case:
    """An allocation at a target."""

    target: float
    name: str
    allocation: Allocation


@dataclass(frozen=True, eq=False)
class Measured:
    """A case on one supernet: its held-out values `[sequences]`."""

    case: Case
    accumulation: str
    seed: int
    values: FloatArray


def shown_for(job: Prepared, case: Case) -> dict[str, Shown | None]:
    """What later blocks see of the ones before, by the name of the accumulation."""
    around = case.allocation
    shown = (
        None,
        Mixture.around(job.space, "uniform", None),
        Mixture.around(job.space, "expectation", None),
        Mixture.around(job.space, "uniform", around),
        Mixture.around(job.space, "expectation", around),
        around,
    )
    return dict(zip(ACCUMULATIONS, shown, strict=True))


class Bench:
    """One model whose weights come from one supernet after the other."""

    def __init__(self, job: Prepared, folder: Path) -> None:
        self.job = job
        self.folder = folder
        self.switcher = Switcher(job.model, self.build(None, job.panels.calibration, folder / "first"))
        self.evaluator = self.evaluating(job.panels.heldout)

    def evaluating(self, panel: Panel) -> Evaluator:
        """An evaluator of one panel."""
        return Evaluator(self.job.model, self.switcher, panel, self.job.objectives[:1], BATCH)

    def build(self, shown: Shown | None, calibration: Panel, folder: Path) -> Supernet:
        """The supernet of one accumulation. The model is dense meanwhile."""
        plan = replace(self.job.build_plan, panel=calibration, propagate=shown)
        return build_supernet(self.job.model, plan, folder, workers=1)

    def cases(self, target: float) -> list[Case]:
        """Uniform and Fisher's allocation at a target, by the first supernet."""
        limits = Budget(sparsity=target).limits(self.job.space)
        search = self.job.panels.search
        problem = Problem(self.job.space, limits, len(search), search.length)
        with Journal.create_or_open(self.folder / "fisher.sqlite") as journal:
            evaluations = JournaledEvaluations(self.evaluating(search), journal, "search")
            found = SearchLoop(make_searcher("fisher", {}, problem, SEED), evaluations).run()
        self.switcher.restore()
        return [Case(target, "uniform", uniform(self.job.space, limits)), Case(target, "fisher", found)]

    def measure(self, cases: list[Case], seed: int, calibration: Panel) -> Iterator[Measured]:
        """Every case on every supernet of one calibration panel, each built once; told as it comes."""
        users: dict[Shown | None, list[tuple[Case, str]]] = {}
        for case in cases:
            for name, shown in shown_for(self.job, case).items():
                users.setdefault(shown, []).append((case, name))
        for shown, users_of in users.items():
            with tempfile.TemporaryDirectory() as folder:
                self.switcher.exchange(self.build(shown, calibration, Path(folder) / "supernet"))
                for case, name in users_of:
                    values = self.evaluator.values([case.allocation], range(len(self.job.panels.heldout)))[0]
                    print(f"seed {seed}, {case.target:.0%} {case.name}, {name}: {values.mean():.4f}", flush=True)
                    yield Measured(case, name, seed, values)
                self.switcher.restore()


def rows_of(found: list[Measured]) -> list[dict[str, Any]]:
    """A row a case and accumulation: medians over seeds, the paired difference from none over all of them."""
    plain = {(each.case, each.seed): each.values for each in found if each.accumulation == NONE}
    rows = []
    for case, name in product(dict.fromkeys(each.case for each in found), ACCUMULATIONS):
        group = [each for each in found if (each.case, each.accumulation) == (case, name)]
        # A sequence's mean over seeds: sequences are what the intervals are about, seeds are no new text.
        own = np.mean([each.values for each in group], axis=0)
        none = np.mean([plain[case, each.seed] for each in group], axis=0)
        whole, change = bootstrap_mean(own, spawn(SEED, "bootstrap")), paired_difference(own, none, spawn(SEED, "pair"))
        means = [float(each.values.mean()) for each in group]
        rows.append({
            "target": f"{case.target:.0%}", "allocation": case.name, "accumulation": name,
            "held-out KL": whole.mean, "interval": f"{whole.low:.4f} to {whole.high:.4f}",
            "seeds' range": f"{min(means):.4f} to {max(means):.4f}",
            "against none": f"{change.mean / none.mean():+.1%}",
            "its interval": f"{change.low / none.mean():+.1%} to {change.high / none.mean():+.1%}",
        })  # fmt: skip
    return rows


def ratios(found: list[Measured], name: str) -> list[float]:
    """Held-out KL with an accumulation over that with none, each case and seed."""
    plain = {(each.case, each.seed): each.values.mean() for each in found if each.accumulation == NONE}
    return [float(each.values.mean() / plain[each.case, each.seed]) for each in found if each.accumulation == name]


def main() -> None:
    given = parse_arguments("accumulation", __doc__, rounds=3)
    targets, seeds = (TARGETS[:1], 1) if given.quick else (TARGETS, given.rounds)
    jobs = [
        reference_job(*(() if given.quick else PANELS), f"objective.panel.seed={seed}", quick=given.quick)
        for seed in range(seeds)
    ]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(jobs[0], Path(folder))
        cases = [case for target in targets for case in bench.cases(target)]
        found = [each for seed, job in enumerate(jobs) for each in bench.measure(cases, seed, job.panels.calibration)]
    worse = median(ratios(found, AROUND))
    means = [
        {"target": each.case.target, "allocation": each.case.name, "accumulation": each.accumulation,
         "seed": each.seed, "values": each.values.tolist()}
        for each in found
    ]  # fmt: skip
    finish(given, rows_of(found), [Check(f"{AROUND} / {NONE}, median over cases", worse, 1.0)], measured=means)


if __name__ == "__main__":
    main()
