"""What the benchmarks share: arguments, the reference job, timing, and how results are shown and kept."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from sparsearch.cli.doctor import examine
from sparsearch.files import write_json
from sparsearch.job.config import load_config
from sparsearch.job.prepare import Prepared, prepare
from sparsearch.reference import reference_path

SEED = 0
RESULTS = Path(__file__).parent / "results"
QUICK = (
    "objective.panel.calibration=4",
    "objective.panel.search=16",
    "objective.panel.heldout=4",
    "space.targets=[mlp.down_proj]",
)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: on the clock, and of processor time in all threads of the process."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Check:
    """A figure against its target."""

    what: str
    value: float
    at_most: float

    @property
    def passed(self) -> bool:
        return self.value <= self.at_most


def parse_arguments(
    name: str, description: str | None, rounds: int | None, threads: Sequence[int] = ()
) -> argparse.Namespace:
    """The arguments of every benchmark; without `rounds` nothing is repeated, without `threads` torch's are used."""
    parser = argparse.ArgumentParser(description=description)
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help=f"repetitions (default {rounds})")
    if threads:
        parser.add_argument("--threads", type=int, nargs="+", default=list(threads), help="default %(default)s")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{name}.json", help="the JSON (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="small and inexact, in seconds: does it still run?")
    given = parser.parse_args()
    if rounds is not None and given.rounds < 1:
        parser.error(f"--rounds: found {given.rounds}; allowed: 1 or more")
    if threads and min(given.threads) < 1:
        parser.error(f"--threads: found {min(given.threads)}; allowed: 1 or more")
    return given


def reference_job(*overrides: str, quick: bool = False) -> Prepared:
    """The job that ships with the package, prepared as `sparsearch run` does it, with `KEY=VALUE` changes."""
    return prepare(load_config(reference_path().parent / "job.yaml", (*(QUICK if quick else ()), *overrides)))


def timed(call: Callable[[], object]) -> Timing:
    """How long one call takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


def interleaved(cases: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[Timing]]:
    """Times all cases in every round, in turning order, so that what else the machine does meets all of them alike."""
    timings: dict[str, list[Timing]] = {name: [] for name in cases}
    for number in range(rounds):
        for name in list(cases)[:: -1 if number % 2 else 1]:
            timings[name].append(timed(cases[name]))
    return timings


def median_ratio(above: Sequence[Timing], below: Sequence[Timing]) -> float:
    """Median over rounds of the ratio of wall times within a round."""
    return median(first.wall / second.wall for first, second in zip(above, below, strict=True))


def median_timing(timings: Iterable[Timing]) -> Timing:
    """Medians of wall and processor time, each for itself."""
    taken = list(timings)
    return Timing(median(t.wall for t in taken), median(t.cpu for t in taken))


def machine() -> dict[str, Any]:
    """Where the figures come from, the load of the last minute included."""
    threads = {"torch_threads": torch.get_num_threads(), "cores": os.cpu_count()}
    return {"platform": platform.platform(), "processor_name": _processor(), **threads, "load": os.getloadavg()[0]} | {
        name: found for name, found in examine().items() if name not in ("disk", "reference model")
    }


def finish(given: argparse.Namespace, rows: Sequence[Row], checks: Sequence[Check], **facts: Any) -> None:
    """Prints table and verdicts and writes both, with the machine, as JSON.

    Args:
        rows: column name to text or number; all with the same columns.
        facts: what else the JSON should say, such as single rounds.
    """
    arguments = {key: str(value) for key, value in sorted(vars(given).items())}
    verdicts = [asdict(check) | {"passed": check.passed} for check in checks]
    write_json(
        given.out,
        {
            "machine": machine(),
            "arguments": arguments,
            "rows": [dict(row) for row in rows],
            "checks": verdicts,
            **facts,
        },
    )
    print(table(rows))
    for check in checks:
        verdict = "PASS" if check.passed else "FAIL"
        print(f"{verdict}  {check.what}: {show(check.value)}, target at most {show(check.at_most)}")
    print(f"written: {given.out}")


def table(rows: Sequence[Row]) -> str:
    """Rows as aligned text, the first column to the left; nothing for no rows."""
    if not rows:
        return ""
    lines = [tuple(rows[0]), *(tuple(map(show, row.values())) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
    )


def show(value: Any) -> str:
    """A number with three significant digits or, from 1000 on, none behind the point; anything else as it is."""
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    return f"{value:#.3g}".rstrip(".") if abs(value) < 999.5 else f"{value:,.0f}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
