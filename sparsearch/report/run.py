"""The report of a run folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sparsearch.errors import ResourceError
from sparsearch.evaluation.intervals import Interval
from sparsearch.files import write_text
from sparsearch.job.config import load_config
from sparsearch.job.folder import RunFolder
from sparsearch.job.front import read_front
from sparsearch.job.journal import Journal
from sparsearch.report.data import ComparisonRow, Difference, Objective, ReportData
from sparsearch.report.front import front_so_far, measured_front
from sparsearch.report.html import render
from sparsearch.space import Profile


def write_report(run_dir: str | Path, out: Path | None = None) -> Path:
    """Writes the page of a run, by default into its folder. Needs neither model nor supernet.

    Raises:
        ResourceError: as `read_report_data`.
    """
    folder = RunFolder(Path(run_dir))
    page = folder.report if out is None else out
    write_text(page, render(read_report_data(folder.path)))
    return page


def read_report_data(run_dir: str | Path) -> ReportData:
    """What the report of a run shows, from its journal and profiles.

    Raises:
        ResourceError: the run has no comparison yet, nor the front of a multi-objective search that was stopped.
    """
    folder = RunFolder(Path(run_dir))
    with Journal.read(folder.journal) as journal:
        comparison = journal.fact("comparison")
        usage = journal.fact("usage", {})
        record = read_front(journal)
    notes = tuple(f"Search: {name} {value:,.1f}." for name, value in usage.items())
    title = f"sparsearch: {folder.path.name}"
    if comparison is None or not folder.best.exists():
        if record is None:
            raise ResourceError(
                f"{folder.path} has no result yet; run sparsearch search with its config.yaml to the end"
            )
        objective, front = Objective(**record.objective), front_so_far(record)
        config = folder.config.read_text(encoding="utf-8")
        return ReportData(title, objective, (), (), {}, front=front, finished=False, config_yaml=config, notes=notes)
    best = Profile.load(folder.best)
    data = comparison_data(comparison, title)
    return replace(
        data,
        front=None if record is None else measured_front(folder, record, data.rows),
        profiles={"best": best, "uniform": Profile.load(folder.uniform)},
        config_yaml=folder.config.read_text(encoding="utf-8"),
        provenance={
            key: str(value)
            for key, value in {
                **best.provenance,
                "model dtype": load_config(folder.config).model.dtype,
            }.items()
        },
        notes=notes,
    )


def comparison_data(comparison: dict[str, Any], title: str) -> ReportData:
    """The measured part of a report from the journal's JSON."""
    curve = comparison.get("curve", {})
    return ReportData(
        title=title,
        objective=Objective(**comparison["objective"]),
        rows=tuple(_row(row) for row in comparison["rows"]),
        differences=tuple(
            Difference(entry["candidate"], entry["reference"], Interval(**entry["interval"]))
            for entry in comparison["differences"]
        ),
        profiles={},
        curve=tuple((tokens, Interval(**interval)) for tokens, interval in curve.get("points", [])),
        curve_panel=f"first {curve.get('sequences', 0)} held-out sequences",
        curve_references=curve.get("references", {}),
    )


def _row(row: dict[str, Any]) -> ComparisonRow:
    perplexity = row["perplexity"]
    return ComparisonRow(
        name=row["name"],
        objective=Interval(**row["objective"]),
        perplexity=None if perplexity is None else Interval(**perplexity),
        sparsity=row["sparsity"],
        seconds=row["seconds"],
        forward_tokens=row["forward_tokens"],
        resources=row.get("resources", {}),
    )
