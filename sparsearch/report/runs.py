"""Several finished runs side by side: `sparsearch compare RUN [RUN ...]`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from sparsearch.errors import ResourceError
from sparsearch.evaluation.intervals import Interval, paired_difference
from sparsearch.files import digest
from sparsearch.job.config import identity, load_config
from sparsearch.job.folder import RunFolder
from sparsearch.job.journal import Journal
from sparsearch.report.data import ComparisonRow, Difference, Objective
from sparsearch.report.run import comparison_data
from sparsearch.report.table import Cells, comparison_cells
from sparsearch.seeds import spawn
from sparsearch.space import Allocation, Profile
from sparsearch.space.space import FloatArray

UNPAIRED = "the run was finished by an older version; run sparsearch search on its config.yaml again"


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """What a run found.

    Attributes:
        run: the folder as it was given.
        searcher: its name.
        budget: the bounds as text.
        objective: of the held-out figures.
        row: the figures of the profile that was found.
        model: name, revision and dtype as text.
        seed: of the job.
        settings: digest of all that decides the job's result but the seed.
        panel: fingerprint of the held-out panel.
        values: the objective on each held-out sequence; None where the journal does not say which they are.
    """

    run: str
    searcher: str
    budget: dict[str, str]
    objective: Objective
    row: ComparisonRow
    model: str
    seed: int
    settings: str
    panel: str
    values: FloatArray | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content, without the single values."""
        named = ("run", "searcher", "budget", "model", "seed")
        figures = asdict(self.row)
        del figures["name"]
        return {
            **{name: getattr(self, name) for name in named}, "heldout_panel": self.panel,
            "heldout": asdict(self.objective), **figures,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Repeats:
    """Runs that differ in their seeds alone.

    Attributes:
        runs: at least two.
        row: medians over the seeds: of the mean and of the ends of each interval, of time and tokens.
    """

    runs: tuple[FinishedRun, ...]
    row: ComparisonRow

    @classmethod
    def of(cls, runs: Sequence[FinishedRun]) -> Repeats:
        """The medians of `runs`."""
        rows = [run.row for run in runs]
        perplexities = [row.perplexity for row in rows if row.perplexity is not None]
        row = ComparisonRow(
            name=rows[0].name,
            objective=_medians([row.objective for row in rows]),
            perplexity=_medians(perplexities) if perplexities else None,
            sparsity=median(row.sparsity for row in rows),
            seconds=median(row.seconds for row in rows),
            forward_tokens=median(row.forward_tokens for row in rows),
        )
        return cls(tuple(runs), row)

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest held-out mean."""
        means = [run.row.objective.mean for run in self.runs]
        return min(means), max(means)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content."""
        figures = asdict(self.row)
        del figures["name"], figures["resources"]
        seeds = [run.seed for run in self.runs]
        return {"runs": [run.run for run in self.runs], "seeds": seeds, "range": list(self.range), **figures}


def _medians(intervals: Sequence[Interval]) -> Interval:
    return Interval(*(median(getattr(each, part) for each in intervals) for part in ("mean", "low", "high")))


@dataclass(frozen=True)
class RunsComparison:
    """Runs, what forbids to compare their values, and paired differences of those that can be.

    Attributes:
        repeats: of the runs those that were repeated with other seeds, the least held-out objective first.
    """

    runs: tuple[FinishedRun, ...]
    warnings: tuple[str, ...]
    differences: tuple[Difference, ...]
    repeats: tuple[Repeats, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content."""
        return {
            "runs": [run.to_dict() for run in self.runs],
            "over_seeds": [each.to_dict() for each in self.repeats],
            "warnings": list(self.warnings),
            "differences": [{**asdict(entry), "verdict": entry.verdict} for entry in self.differences],
        }


def compare_runs(run_dirs: Sequence[str | Path]) -> RunsComparison:
    """Reads finished runs; needs neither models nor supernets. The first one is the reference of differences.

    A difference is paired by sequences, so it is there only for runs with the model, the held-out panel and the
    objective of the first.

    Raises:
        ResourceError: a folder holds no run, or one that has not finished.
    """
    runs = tuple(read_finished_run(run) for run in run_dirs)
    reference = runs[0]
    differences = [
        Difference(run.run, reference.run, paired_difference(run.values, reference.values, spawn(0, "bootstrap")))
        for run in runs[1:]
        if run.values is not None and reference.values is not None and _comparable(run, reference)
    ]
    return RunsComparison(runs, _warnings(runs), tuple(differences), _repeats(runs))


def _repeats(runs: Sequence[FinishedRun]) -> tuple[Repeats, ...]:
    groups: dict[str, dict[int, FinishedRun]] = {}
    for run in runs:
        groups.setdefault(run.settings, {}).setdefault(run.seed, run)
    found = [Repeats.of(list(seeds.values())) for seeds in groups.values() if len(seeds) > 1]
    return tuple(sorted(found, key=lambda each: each.row.objective.mean))


def read_finished_run(run_dir: str | Path) -> FinishedRun:
    """What the run in `run_dir` found.

    Raises:
        ResourceError: no run, or it has not finished.
    """
    folder = RunFolder(Path(run_dir))
    with Journal.read(folder.journal) as journal:
        comparison = journal.fact("comparison")
        if comparison is None or not folder.best.exists():
            raise ResourceError(
                f"{folder.path} has no result yet; run sparsearch search with its config.yaml to the end"
            )
        config = load_config(folder.config)
        values = _values(journal, config.objective.objective)
    profile = Profile.load(folder.best)
    data = comparison_data(comparison, title="")
    model = config.model
    return FinishedRun(
        run=str(run_dir),
        searcher=config.searcher.name,
        budget=profile.budget,
        objective=data.objective,
        row=data.rows[-1],
        model=", ".join([str(profile.provenance["model"]), *filter(None, [model.revision, model.dtype])]),
        seed=config.seed,
        settings=digest({name: value for name, value in identity(config).items() if name != "seed"}),
        panel=str(profile.provenance["heldout_panel"]),
        values=values,
    )


def _values(journal: Journal, objective: str) -> FloatArray | None:
    """The found allocation's held-out values `[sequences]`, in the order of the panel."""
    found = journal.fact("found")
    if found is None:
        return None
    known = journal.known(journal.fact("found_panel", "heldout"), objective, Allocation.of(found))
    return np.array([known[sequence] for sequence in sorted(known)])


def _comparable(run: FinishedRun, other: FinishedRun) -> bool:
    return (run.model, run.panel, run.objective) == (other.model, other.panel, other.objective)


def _warnings(runs: Sequence[FinishedRun]) -> tuple[str, ...]:
    told = [
        _difference(runs, "models", lambda run: run.model),
        _difference(runs, "held-out panels", lambda run: f"panel {run.panel[:8]}"),
        _difference(runs, "objectives", lambda run: run.objective.heading),
    ]
    unpaired = [f"{run.run}: no paired differences, as {UNPAIRED}" for run in runs if run.values is None]
    return (*filter(None, told), *unpaired)


def _difference(runs: Sequence[FinishedRun], what: str, key: Callable[[FinishedRun], str]) -> str:
    """A sentence where the runs differ in `key`, else nothing."""
    groups: dict[str, list[str]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run.run)
    if len(groups) == 1:
        return ""
    listed = "; ".join(f"{value}: {', '.join(names)}" for value, names in groups.items())
    return f"the {what} differ, so the held-out values are not comparable ({listed})"


def runs_cells(runs: Sequence[FinishedRun]) -> Cells:
    """Heading and rows of the table; where the objectives differ, each row names its own."""
    same = len({run.objective for run in runs}) == 1
    shown = runs[0].objective if same else Objective("objective")
    (_, *heading), rows = comparison_cells([run.row for run in runs], shown)
    cells: list[tuple[str, ...]] = []
    for run, (_, value, *rest) in zip(runs, rows, strict=True):
        budget = ", ".join(f"{resource} {bound}" for resource, bound in run.budget.items())
        cells.append((run.run, run.searcher, budget, value if same else f"{value} {run.objective.heading}", *rest))
    return ("run", "searcher", "budget", *heading), cells


def repeats_cells(repeats: Sequence[Repeats]) -> Cells:
    """Heading and rows of the medians over seeds; where the objectives differ, each row names its own."""
    (_, *heading), cells = runs_cells([replace(each.runs[0], row=each.row) for each in repeats])
    ranges = (" to ".join(f"{end:.4g}" for end in each.range) for each in repeats)
    rows = [
        (searcher, budget, str(len(each.runs)), value, span, *rest)
        for (_, searcher, budget, value, *rest), each, span in zip(cells, repeats, ranges, strict=True)
    ]
    searcher, budget, value, *rest = heading
    return (searcher, budget, "seeds", value, "range of seeds", *rest), rows
