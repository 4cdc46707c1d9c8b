"""What putting an allocation into the reference model costs against evaluating it on 4096 tokens.

Each round switches, then evaluates (16 sequences of 256 tokens, KL, no prefix reuse), so that caches and threads
are as a search leaves them. Switched are whole random allocations, and offspring of one EvoPress parent one after
the other; with the variants decoded before (warm) and not (cold). Target: under 5 % of the evaluation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

from common import SEED, Check, Timing, finish, median_ratio, median_timing, parse_arguments, reference_job, timed

from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.job.prepare import Prepared
from sparsearch.search.evopress import MOST_SWITCHES
from sparsearch.search.moves import level_switch
from sparsearch.seeds import spawn
from sparsearch.space import Allocation
from sparsearch.space.repair import uniform
from sparsearch.supernet import Supernet, Switcher, build_supernet

TOKENS = 4096
MOST = 0.05


def random_allocations(job: Prepared, count: int) -> list[Allocation]:
    """Any level at any site."""
    rng = spawn(SEED, "random allocations")
    return [Allocation.of(rng.integers(0, job.space.counts)) for _ in range(count)]


def offspring(job: Prepared, count: int) -> list[Allocation]:
    """Mutants of the uniform parent: one to three level switches each, as EvoPress draws them."""
    rng = spawn(SEED, "offspring")
    parent = uniform(job.space, job.limits)
    found = []
    for _ in range(count):
        levels = parent.array
        for _ in range(rng.integers(1, MOST_SWITCHES, size=2, endpoint=True).min()):
            levels = level_switch(job.space, job.limits, levels, rng)
        found.append(Allocation.of(levels))
    return found


class Bench:
    """The reference model with one supernet, switched and evaluated in turn."""

    def __init__(self, job: Prepared, folder: Path, tokens: int) -> None:
        self.job = job
        self.folder = folder
        self.sequences = range(tokens // job.panels.search.length)

    def measure(self, allocations: Sequence[Allocation], warm: bool) -> tuple[list[Timing], list[Timing]]:
        """Timings of switching to each allocation but the first, and of evaluating it."""
        # A cache of nothing keeps one variant, so that every other one is decoded again.
        supernet = Supernet(self.folder, self.job.space) if warm else Supernet(self.folder, self.job.space, 0)
        switcher = Switcher(self.job.model, supernet)
        evaluator = Evaluator(self.job.model, switcher, self.job.panels.search, self.job.objectives[:1])
        evaluator.values(allocations[:1], self.sequences)
        self._read_all(switcher)
        for allocation in (*allocations, allocations[0]):
            switcher.switch(allocation)
        switches, evaluations = [], []
        for allocation in allocations[1:]:
            switches.append(timed(partial(switcher.switch, allocation)))
            evaluations.append(timed(partial(evaluator.values, [allocation], self.sequences)))
        switcher.restore()
        return switches, evaluations

    def first_use(self, allocation: Allocation) -> Timing:
        """Switching with a supernet just opened: shards are read and their checksums verified."""
        switcher = Switcher(self.job.model, Supernet(self.folder, self.job.space))
        timing = timed(lambda: switcher.switch(allocation))
        switcher.restore()
        return timing

    def _read_all(self, switcher: Switcher) -> None:
        for site in range(len(self.job.space)):
            switcher.variant(site, 1)


def main() -> None:
    given = parse_arguments("switch_cost", __doc__, rounds=15)
    job = reference_job(quick=given.quick)
    count, tokens = (2, TOKENS // 4) if given.quick else (given.rounds, TOKENS)
    kinds = {"whole random": random_allocations(job, count + 1), "evopress offspring": offspring(job, count + 1)}
    rows, checks, rounds = [], [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "supernet"
        build_supernet(job.model, job.build_plan, folder)
        bench = Bench(job, folder, tokens)
        for kind, allocations in kinds.items():
            for cache in ("cold", "warm"):
                switches, evaluations = bench.measure(allocations, cache == "warm")
                share = median_ratio(switches, evaluations)
                rows.append(_row(kind, cache, changed(allocations), switches, evaluations, share))
                checks.append(Check(f"{kind}, {cache}: switching / evaluation", share, MOST))
                rounds[f"{kind}, {cache}"] = [
                    [asdict(s), asdict(e)] for s, e in zip(switches, evaluations, strict=True)
                ]
        first = [bench.first_use(allocation) for allocation in kinds["whole random"][1:]]
        rows.append(
            _row("whole random", "first use", len(job.space), first, evaluations, median_ratio(first, evaluations))
        )
    finish(given, rows, checks, rounds=rounds, tokens=tokens)


def changed(allocations: Sequence[Allocation]) -> float:
    """Median number of sites in which neighbours differ."""
    return float(median(int((left.array != right.array).sum()) for left, right in pairwise(allocations)))


def _row(
    kind: str, cache: str, sites: float, switches: list[Timing], evaluations: list[Timing], share: float
) -> dict[str, object]:
    switch, evaluation = median_timing(switches), median_timing(evaluations)
    return {
        "allocation": kind,
        "variants": cache,
        "sites": f"{sites:g}",
        "switch ms": 1e3 * switch.wall,
        "cpu ms": 1e3 * switch.cpu,
        "evaluation ms": 1e3 * evaluation.wall,
        "its cpu ms": 1e3 * evaluation.cpu,
        "share": f"{share:.2%}",
    }


if __name__ == "__main__":
    main()
