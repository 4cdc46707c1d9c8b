"""The front of a multi-objective job, from its journal and profiles: points, what they are compared with, its table."""

from __future__ import annotations

from collections.abc import Sequence

from sparsearch.evaluation.intervals import Interval
from sparsearch.job.folder import RunFolder
from sparsearch.job.front import FrontRecord, hypervolume_curve, knee_index
from sparsearch.report.data import ComparisonRow, FrontPoint, FrontReport, Objective
from sparsearch.report.table import Cells
from sparsearch.report.text import format_interval
from sparsearch.space import Profile

REFERENCES = ("uniform", "best allocator: ")
"""What names of rows begin with that a front is compared with."""


def measured_front(folder: RunFolder, record: FrontRecord, rows: Sequence[ComparisonRow]) -> FrontReport:
    """The front of a finished run: its profiles with what they were measured at on the held-out panel.

    Where somebody has removed the profiles, what the search has evaluated.
    """
    profiles = [Profile.load(path) for path in folder.front]
    if not profiles:
        return front_so_far(record)
    points = [_point(f"pareto:{index}", profile, record.resources) for index, profile in enumerate(profiles)]
    dense = next((row.resources for row in rows if row.name == "dense"), {})
    references = [
        FrontPoint(row.name, row.objective, {name: row.resources[name] / dense[name] for name in record.resources})
        for row in rows
        if row.name.startswith(REFERENCES) and row.resources
    ]
    return _report(record, points, points[knee_index(profiles)].name, references, "held-out panel")


def front_so_far(record: FrontRecord) -> FrontReport:
    """The front of a run that has not finished, by what the search has evaluated."""
    front = record.front()
    points = [
        FrontPoint(f"point {index}", Interval(value, value, value), dict(zip(record.resources, shares, strict=True)))
        for index, (value, shares) in enumerate(
            zip(front.values.tolist(), (front.resources / record.dense).tolist(), strict=True)
        )
    ]
    return _report(record, points, points[front.knee].name, [], f"{record.sequences} sequences of the search panel")


def _report(
    record: FrontRecord, points: Sequence[FrontPoint], chosen: str, references: Sequence[FrontPoint], panel: str
) -> FrontReport:
    return FrontReport(
        resources=record.resources,
        points=tuple(points),
        knee=chosen,
        references=tuple(references),
        panel=panel,
        volume=tuple(hypervolume_curve(record)),
        worst=record.worst,
        sequences=record.sequences,
    )


def _point(name: str, profile: Profile, resources: Sequence[str]) -> FrontPoint:
    found = profile.figures["heldout"][f"searched: {profile.provenance['searcher']}"]
    costs = {name: profile.resources[name] for name in resources}
    shares = {name: cost["profile"] / cost["dense"] for name, cost in costs.items()}
    return FrontPoint(name, Interval(**found["objective"]), shares)


def front_cells(front: FrontReport, objective: Objective) -> Cells:
    """Heading and rows of the table: the points of the front, then what they are compared with."""
    heading = ("point", f"{objective.heading}, {front.panel}", *(f"{name} of dense" for name in front.resources))
    cells = [
        (
            f"{point.name} (knee)" if point.name == front.knee else point.name,
            format_interval(point.objective),
            *(f"{point.shares[name]:.1%}" for name in front.resources),
        )
        for point in (*front.points, *front.references)
    ]
    return heading, cells


def volume_text(front: FrontReport) -> str:
    """What the hypervolume is of, in words."""
    return (
        "The share of the box between the reference point and an objective of 0 at the cost of the sparsest "
        f"allocation that the points evaluated so far dominate, on the {front.sequences} sequences of the search. The "
        f"reference point, the same throughout: objective {front.worst:.4g}, that of the sparsest allocation, and the "
        f"cost of the dense model in {' and '.join(front.resources)}."
    )
