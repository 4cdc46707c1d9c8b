"""Runs a job in forked children and kills them with SIGKILL: `python kill_harness.py REFERENCE_JOB JOB SEED KILLS`.

One process imports torch once and forks a child for every attempt, so that an attempt costs a fraction of a second.
REFERENCE_JOB runs once without a kill, JOB is killed KILLS times at moments that are drawn over its whole life, then
runs to its end, and once more. Prints a JSON object; what children print goes to `attempts.log` beside the job.
"""

import json
import os
import random
import signal
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import transformers  # noqa: F401  imported before the first fork
from sparsearch import files
from sparsearch.cli.main import run
from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.job.config import load_config
from sparsearch.job.folder import RunFolder
from sparsearch.job.journal import Journal
from sparsearch.job.job import Job  # noqa: F401  so is all that a job needs
from sparsearch.report.run import write_report  # noqa: F401


@dataclass(frozen=True)
class State:
    """What a run has on disk."""

    shards: int = 0
    rows: int = 0
    profiles: int = 0


@dataclass(frozen=True)
class Moment:
    """When to kill: at the `count`-th `what`, `delay` seconds later."""

    what: str
    count: int
    delay: float = 0.0


class Watched:
    """A run folder seen from outside."""

    def __init__(self, job):
        self.job = job
        self.folder = RunFolder(load_config(job).run.dir)
        self.log = job.parent / "attempts.log"
        self.computed = job.parent / "computed.log"

    def state(self):
        parent = self.folder.path.parent
        shards = len(list(parent.glob("supernets/*/sites/*.json")))
        profiles = len(list(self.folder.path.glob("profiles/*.json")))
        return State(shards, self._rows(), profiles)

    def _rows(self):
        if not self.folder.journal.exists():
            return 0
        try:
            with closing(sqlite3.connect(f"file:{self.folder.journal}?mode=ro", uri=True)) as connection:
                return connection.execute("SELECT COUNT(*) FROM evaluations").fetchone()[0]
        except sqlite3.OperationalError:  # it is just being made
            return 0

    def attempt(self, moment=None):
        """The exit code of `sparsearch search JOB`, -9 when it was killed."""
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            self._child(moment)
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if moment and self._reached(moment, begun):
                time.sleep(moment.delay)
                os.kill(child, signal.SIGKILL)
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            time.sleep(0.0005)

    def _reached(self, moment, begun):
        if moment.what in ("time", "rename"):
            return moment.what == "time"
        return getattr(self.state(), moment.what) >= moment.count

    def _child(self, moment):
        try:
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            _note_evaluations(self.computed)
            if moment and moment.what == "rename":
                _die_around_rename(moment.count)
            os._exit(run(["search", str(self.job)]))
        finally:
            os._exit(1)


def _note_evaluations(path):
    """Has every evaluation that is really computed appended to `path`, before the journal hears of it."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    evaluate = Evaluator.evaluate

    def noted(self, allocations, sequences):
        for evaluation in evaluate(self, allocations, sequences):
            levels = allocations[evaluation.index].levels
            os.write(log, (json.dumps([self.panel.fingerprint, levels, list(sequences)]) + "\n").encode())
            yield evaluation

    Evaluator.evaluate = noted


def _die_around_rename(count):
    """Kills this process right before (even `count`) or after (odd) a file gets its name."""
    replace, left = os.replace, [count]

    def step():
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    def dying(source, target):
        step()
        replace(source, target)
        step()

    files.os.replace = dying


def draw_moments(rng, whole, seconds, kills):
    """Moments over a whole life: start-up (time), build (shards), search and comparison (rows), the end."""
    parts = kills // 5
    build = [Moment("shards", rng.randint(1, whole.shards - 1), rng.uniform(0, 0.02)) for _ in range(parts)]
    search = [
        Moment("rows", rng.randint(1, whole.rows), rng.uniform(0, 0.02)) for _ in range(kills - 4 * parts)
    ]
    moments = sorted(build, key=lambda moment: moment.count) + sorted(search, key=lambda moment: moment.count)
    moments += [Moment("profiles", rng.randint(1, 2)) for _ in range(2)]
    others = [Moment("time", 0, rng.uniform(0, seconds)) for _ in range(parts)]
    others += [Moment("rename", rng.randint(0, 11)) for _ in range(2 * parts - 2)]
    for moment in others:
        moments.insert(rng.randint(0, len(moments)), moment)
    return moments


def main(reference_job, job, seed, kills):
    reference, watched = Watched(Path(reference_job)), Watched(Path(job))
    begun = time.monotonic()
    assert reference.attempt() == 0, reference.log.read_text()
    seconds, rng = time.monotonic() - begun, random.Random(int(seed))
    killed = []
    moments = draw_moments(rng, reference.state(), seconds, int(kills))
    while moments:
        moment, before = moments.pop(0), watched.state()
        code = watched.attempt(moment)
        assert code in (0, -signal.SIGKILL), watched.log.read_text()
        if code == 0:  # it got to its end first
            moments.insert(0, Moment("time", 0, rng.uniform(0, seconds)))
        else:
            killed.append({"moment": asdict(moment), "before": asdict(before), "after": asdict(watched.state())})
    codes = [watched.attempt(), watched.attempt()]
    print(json.dumps({"seconds": seconds, "killed": killed, "codes": codes, "total": time.monotonic() - begun}))


if __name__ == "__main__":
    main(*sys.argv[1:])
