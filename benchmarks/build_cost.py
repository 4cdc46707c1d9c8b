"""What all 19 levels of the reference supernet cost against one: seconds of a whole build with SparseGPT.

Forwards of the calibration panel, statistics, pruning, encoding and flushing to disk are in it, loading the model
is not. Target: at most 3 times one level.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from common import Check, Timing, finish, interleaved, median_ratio, median_timing, parse_arguments, reference_job

from sparsearch.job.prepare import model_space
from sparsearch.model.prunable import PrunableModel
from sparsearch.space import level_grid
from sparsearch.supernet import BuildPlan, build_supernet

MOST = 3.0
ONE_LEVEL = 0.6


def building(model: PrunableModel, plan: BuildPlan, workers: int) -> Callable[[], None]:
    """A call that builds a supernet and deletes it again."""

    def build() -> None:
        with tempfile.TemporaryDirectory() as folder:
            build_supernet(model, plan, Path(folder) / "supernet", workers=workers)

    return build


def main() -> None:
    given = parse_arguments("build_cost", __doc__, rounds=5)
    job = reference_job(quick=given.quick)
    section = job.config.space
    space = model_space(job.model, level_grid([ONE_LEVEL]), section.targets, section.ignore)
    model, grid, one = job.model, job.build_plan, replace(job.build_plan, space=space)
    assert grid.space.counts.max() == 19 and one.space.counts.max() == 2
    workers = sorted({1, os.cpu_count() or 1})
    cases = {
        _name(levels, count): building(model, plan, count)
        for count in workers
        for levels, plan in (("19 levels", grid), ("1 level", one))
    }
    if not given.quick:
        interleaved(cases, 1)
    timings = interleaved(cases, 1 if given.quick else given.rounds)
    rows, checks = [], []
    for count in workers:
        many, few = timings[_name("19 levels", count)], timings[_name("1 level", count)]
        rows += [_row("19 levels", count, many, few), _row("1 level", count, few, few)]
        checks.append(Check(f"19 levels / 1 level, {count} workers", median_ratio(many, few), MOST))
    rounds = {name: [asdict(timing) for timing in taken] for name, taken in timings.items()}
    finish(given, rows, checks, rounds=rounds)


def _name(levels: str, workers: int) -> str:
    return f"{levels}, {workers} workers"


def _row(levels: str, workers: int, taken: list[Timing], one: list[Timing]) -> dict[str, object]:
    timing = median_timing(taken)
    return {
        "build": levels,
        "workers": workers,
        "wall s": timing.wall,
        "cpu s": timing.cpu,
        "times 1 level": median_ratio(taken, one),
    }


if __name__ == "__main__":
    main()
