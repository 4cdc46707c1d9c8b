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
    cases = {"19 levels": building(model, grid, 1), "1 level": building(model, one, 1)}
    cores = os.cpu_count() or 1
    if cores > 1:
        cases[f"19 levels, {cores} workers"] = building(model, grid, cores)
        cases[f"1 level, {cores} workers"] = building(model, one, cores)
    if not given.quick:
        interleaved(cases, 1)
    timings = interleaved(cases, 1 if given.quick else given.rounds)
    rows = [_row(name, taken, timings["1 level"]) for name, taken in timings.items()]
    ratio = median_ratio(timings["19 levels"], timings["1 level"])
    rounds = {name: [asdict(timing) for timing in taken] for name, taken in timings.items()}
    finish(given, rows, [Check("building 19 levels / building 1 level", ratio, MOST)], rounds=rounds)


def _row(name: str, taken: list[Timing], one: list[Timing]) -> dict[str, object]:
    timing = median_timing(taken)
    return {"build": name, "wall s": timing.wall, "cpu s": timing.cpu, "times 1 level": median_ratio(taken, one)}


if __name__ == "__main__":
    main()
