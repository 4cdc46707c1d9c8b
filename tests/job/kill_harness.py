"""Kills jobs with SIGKILL again and again: `python kill_harness.py REFERENCE_JOB DRAWN_JOB FILES_JOB`.

One process imports torch once and forks a child for every attempt, so that an attempt costs a fraction of a second.
REFERENCE_JOB runs without a kill. DRAWN_JOB is killed at 30 moments that are drawn over its whole life, FILES_JOB
around each of the first files that it writes; both then run to their end, and once more. Prints a JSON object; what
the children print goes to `attempts.log` beside each job.
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

# What a job imports late is imported before the first fork.
import matplotlib.figure  # noqa: F401
from transformers import AutoModelForCausalLM, LlamaForCausalLM, TokenizersBackend  # noqa: F401

from sparsearch import files
from sparsearch.cli.main import run
from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.job.config import load_config
from sparsearch.job.folder import RunFolder
from sparsearch.job.job import Job  # noqa: F401
from sparsearch.report.run import write_report  # noqa: F401

POLL = 0.0005


@dataclass(frozen=True)
class State:
    """What a run has on disk."""

    shards: int
    rows: int
    profiles: int


@dataclass(frozen=True)
class Moment:
    """When to kill: `delay` seconds after there are `count` of `what` (of `time`: after the start).

    `rename`: right before (even `count`) or after (odd) a file of this attempt gets its name.
    """

    what: str
    count: int = 0
    delay: float = 0.0


class Watched:
    """A job, run in children and seen from outside."""

    def __init__(self, job):
        self.job = Path(job)
        self.folder = RunFolder(load_config(job).run.dir)
        self.log = self.job.parent / "attempts.log"
        self.computed = self.job.parent / "computed.log"

    @property
    def state(self):
        return State(self.shards(), self.rows(), self.profiles())

    def shards(self):
        return len(list(self.folder.path.parent.glob("supernets/*/sites/*.json")))

    def rows(self):
        if not self.folder.journal.exists():
            return 0
        try:
            with closing(sqlite3.connect(f"file:{self.folder.journal}?mode=ro", uri=True)) as connection:
                return connection.execute("SELECT COUNT(*) FROM evaluations").fetchone()[0]
        except sqlite3.OperationalError:  # its tables are just being made
            return 0

    def profiles(self):
        return len(list(self.folder.path.glob("profiles/*.json")))

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
            if moment and self._reached(moment, time.monotonic() - begun):
                time.sleep(moment.delay)
                os.kill(child, signal.SIGKILL)
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            time.sleep(POLL)

    def timed(self):
        """Seconds to the first shard and to the end of a run without a kill."""
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            self._child(None)
        while not self.shards() and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            time.sleep(POLL)
        startup = time.monotonic() - begun
        assert os.waitpid(child, 0)[1] == 0, self.log.read_text()
        return startup, time.monotonic() - begun

    def _reached(self, moment, seconds):
        if moment.what in ("time", "rename"):
            return moment.what == "time"
        return getattr(self, moment.what)() >= moment.count

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
    rename, left = os.replace, [count]

    def step():
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    def dying(source, target):
        step()
        rename(source, target)
        step()

    files.os.replace = dying


class Drawn:
    """30 moments over a whole life, each drawn when the one before has passed.

    Args:
        whole: what a run has at its end.
        seconds: what its start-up and all of it takes.
    """

    def __init__(self, rng, whole, seconds):
        self.rng, self.whole, self.seconds = rng, whole, seconds
        build = ["time"] * 3 + ["shards"] * 5 + ["rename"] * 2
        search = ["time"] * 2 + ["rows"] * 10
        rng.shuffle(build)
        rng.shuffle(search)
        # Then while it writes its results, and while it goes through what it knows.
        self.kinds = [*build, *search, "best", "uniform", "report", "page", *["replay"] * 4]

    def __iter__(self):
        while self.kinds:
            yield self.kinds.pop(0)

    def aim(self, kind, state):
        """The moment for a run that begins in `state`."""
        rng, (startup, total) = self.rng, self.seconds
        if kind == "shards" and state.shards < self.whole.shards:
            return Moment("shards", state.shards + rng.randint(1, 3), rng.uniform(0, 0.02))
        if kind == "rows" and state.rows < self.whole.rows - 1:
            share = (self.whole.rows - state.rows) // (1 + self.kinds.count("rows"))
            return Moment("rows", state.rows + rng.randint(1, max(share, 1)), rng.uniform(0, 0.005))
        if kind == "rename" and state.shards < self.whole.shards - 4:
            return Moment("rename", rng.randint(6, 9))
        if kind == "page":
            return Moment("profiles", 2, rng.uniform(0, 0.5))
        files = {"best": 2, "uniform": 3, "report": 5}
        if kind in files:
            return Moment("rename", files[kind])
        return Moment("time", 0, rng.uniform(0, total / 2 if kind == "replay" else startup / 2))


# Who holds the folder (first in every attempt), config, the supernet's identity, the first shards and their notes.
FILES = (0, 1, 2, 3, 2, 3, 2, 3, 4, 3)


def kill(watched, moments, aim):
    """Runs a job to its end, killed at the moments that `aim` gives."""
    killed = []
    for kind in moments:
        before = watched.state
        moment = aim(kind, before)
        while (code := watched.attempt(moment)) == 0:  # it came to its end first
            moment = Moment("time", 0, (moment.delay or 1) / 2)
        killed.append(
            {"moment": asdict(moment), "code": code, "before": asdict(before), "after": asdict(watched.state)}
        )
    return {"killed": killed, "codes": [watched.attempt(), watched.attempt()]}


def main(reference_job, drawn_job, files_job):
    assert len(os.listdir("/proc/self/task")) == 1, "forking is only safe from a single thread"
    begun, reference = time.monotonic(), Watched(reference_job)
    seconds = reference.timed()
    drawn = Drawn(random.Random(0), reference.state, seconds)
    result = {
        "reference": seconds,
        "drawn": kill(Watched(drawn_job), drawn, drawn.aim),
        "files": kill(Watched(files_job), FILES, lambda count, state: Moment("rename", count)),
        "seconds": time.monotonic() - begun,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
