"""How far a job is, read from its run folder while another process writes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sparsearch.errors import ConfigError
from sparsearch.job.folder import RunFolder
from sparsearch.job.journal import Journal
from sparsearch.job.lock import is_locked
from sparsearch.space import Profile


@dataclass(frozen=True)
class Status:
    """How far a job is.

    Attributes:
        stage: what it is doing or was doing last; "new" before the first stage.
        done: steps of the stage done.
        total: steps of the stage in all.
        text: what the stage said about itself last.
        evaluations: how many the journal holds, over all panels.
        forward_tokens: what they cost together.
        running: whether a process owns the run folder.
        updated: when the job last reported, seconds since the epoch, or None.
        eta: seconds from `updated` until the stage ends at its pace so far, or None where that cannot be told.
        best: the figures of `profiles/best.json`, or None before there is one.
    """

    stage: str
    done: int
    total: int
    text: str
    evaluations: int
    forward_tokens: float
    running: bool
    updated: float | None
    eta: float | None
    best: dict[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content."""
        return asdict(self)


def read_status(run_dir: str | Path) -> Status:
    """The status of the job in `run_dir`; changes nothing there.

    Reads the fact "progress" (`{stage, done, total, left, text, updated}`, `left` in seconds, `updated` in seconds
    since the epoch), sums up the evaluations, and takes the figures from the profile.

    Raises:
        ConfigError: no such folder.
        ResourceError: the folder holds no journal, or a damaged one.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise ConfigError(f"run folder {run_dir} does not exist; give the folder of a run that has been started")
    running = is_locked(run_dir)
    folder = RunFolder(run_dir)
    with Journal.read(folder.journal) as journal:
        progress = journal.fact("progress", {})
        totals = journal.totals().values()
    return Status(
        stage=progress.get("stage", "new"),
        done=progress.get("done", 0),
        total=progress.get("total", 0),
        text=progress.get("text", ""),
        evaluations=sum(panel.evaluations for panel in totals),
        forward_tokens=sum(panel.forward_tokens for panel in totals),
        running=running,
        updated=progress.get("updated"),
        eta=progress.get("left") if running else None,
        best=Profile.load(folder.best).figures if folder.best.exists() else None,
    )
