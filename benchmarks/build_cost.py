"""What all 19 levels of the reference supernet cost against one: seconds of a whole build with SparseGPT.

Forwards of the calibration panel, statistics, pruning, encoding and flushing to disk are in it, loading the model
is not. Target: at most 3 times one level.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from common import Check, Timing, finish, interleaved, median_ratio, median_timing, parse_arguments, reference_job

from sparsearch.job.prepare import Prepared
from sparsearch.supernet import build_supernet

MOST = 3.0
ONE_LEVEL = "space.levels=[0.6]"


def building(job: Prepared, workers: int) -> Callable[[], None]:
    """A call that builds the job's supernet and deletes it again."""

    def build() -> None:
        with tempfile.TemporaryDirectory() as folder:
            build_supernet(job.model, job.build_plan, Path(folder) / "supernet", workers=workers)

    return build


def main() -> None:
    given = parse_arguments("build_cost", __doc__, rounds=5)
    grid, one = reference_job(quick=given.quick), reference_job(ONE_LEVEL, quick=given.quick)
    cases = {"19 levels": building(grid, 1), "1 level": building(one, 1)}
    cores = os.cpu_count() or 1
    if cores > 1:
        cases |= {
            f"19 levels, {cores} workers": building(grid, cores),
            f"1 level, {cores} workers": building(one, cores),
        }
    assert grid.space.counts.max() == 19 and one.space.counts.max() == 2
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
