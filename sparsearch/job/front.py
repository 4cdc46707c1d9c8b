"""The front that a job has written, from its profiles, and what its search has evaluated, from the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sparsearch.errors import ConfigError
from sparsearch.evaluation.objectives import Objective
from sparsearch.job.folder import RunFolder
from sparsearch.job.journal import Journal
from sparsearch.search import Searcher
from sparsearch.search.front import Front, hypervolume, knee, make_front, nondominated, thin
from sparsearch.space import Allocation, Profile
from sparsearch.space.space import FloatArray, summed

FRONT_POINTS = 16
"""Points of a front that are measured on held-out text and written, the least crowded ones."""

RECORD = "front"
"""The fact and the arrays that say what a front is of."""

VOLUME_POINTS = 40
"""Of the curve of the hypervolume, at most."""


@dataclass(frozen=True, eq=False)
class FrontRecord:
    """What a multi-objective search has evaluated so far, in that order, all on the same sequences.

    Attributes:
        objective: `name` and `unit`, as reports call it.
        resources: their names.
        allocations: those evaluated.
        values: mean objective of each, `[n]`.
        spent: what each costs, `[n, resources]`.
        tokens: evaluated up to and including each, `[n]`.
        sequences: of the search panel, how many.
        dense: what the dense model costs, `[resources]`.
        sparsest: what the sparsest allocation costs, `[resources]`.
        worst: the objective of the sparsest allocation; None where the search has not come to it.
    """

    objective: dict[str, str]
    resources: tuple[str, ...]
    allocations: tuple[Allocation, ...]
    values: FloatArray
    spent: FloatArray
    tokens: FloatArray
    sequences: int
    dense: FloatArray
    sparsest: FloatArray
    worst: float | None

    def front(self) -> Front:
        """The front of what was evaluated, its least crowded points."""
        return thin(make_front(self.allocations, self.values, self.spent, self.resources), FRONT_POINTS)


def note_front(journal: Journal, searcher: Searcher, objective: Objective) -> None:
    """Notes what `searcher` looks for a front of, so that it can be followed by the journal alone."""
    names = searcher.front_resources
    if not names:
        return
    space = searcher.problem.space
    journal.set_fact(RECORD, {
        "resources": list(names), "tokens": searcher.problem.tokens,
        "objective": {"name": objective.title, "unit": objective.unit}, "key": objective.name,
    })  # fmt: skip
    costs = np.stack([space.costs[name] for name in names])
    constants = np.array([space.constants[name] for name in names], dtype=np.float64)
    journal.store_arrays(RECORD, {"costs": costs, "constants": constants})


def noted_resources(journal: Journal) -> tuple[str, ...]:
    """The resources that a search minimises beside the objective; none where it looks for no front."""
    noted = journal.fact(RECORD)
    return tuple(noted["resources"]) if noted else ()


def read_front(journal: Journal) -> FrontRecord | None:
    """The record of a multi-objective search; None where it is none, or has evaluated nothing yet.

    Takes the evaluations on the sequences that the search has drawn for all allocations. What it evaluates on others
    at its end, and what the job's allocators evaluate afterwards, is no part of it.
    """
    noted, arrays = journal.fact(RECORD), journal.arrays(RECORD)
    if noted is None or arrays is None:
        return None
    rows = [row for row in journal.rows() if (row.panel, row.objective) == ("search", noted["key"])]
    over = journal.fact("search_cost")
    rows = rows if over is None else rows[: over["evaluations"]]
    if not rows:
        return None
    drawn = rows[0].sequences
    rows = [row for row in rows if row.sequences == drawn]
    sparsest = Allocation.of(np.isfinite(arrays["costs"][0]).sum(axis=1) - 1)
    values = np.array([np.mean(row.values) for row in rows])
    found = [float(value) for row, value in zip(rows, values, strict=True) if row.allocation == sparsest]
    return FrontRecord(
        objective=noted["objective"],
        resources=tuple(noted["resources"]),
        allocations=tuple(row.allocation for row in rows),
        values=values,
        spent=_spent(arrays, [row.allocation for row in rows]),
        tokens=np.arange(1, len(rows) + 1, dtype=np.float64) * len(drawn) * noted["tokens"],
        sequences=len(drawn),
        dense=_spent(arrays, [Allocation((0,) * len(sparsest))])[0],
        sparsest=_spent(arrays, [sparsest])[0],
        worst=found[0] if found else None,
    )


def _spent(arrays: dict[str, FloatArray], allocations: Sequence[Allocation]) -> FloatArray:
    """What `allocations` cost, `[n, resources]`."""
    levels = np.array([allocation.levels for allocation in allocations], dtype=np.int64)
    return np.asarray(summed(arrays["costs"], levels).T + arrays["constants"])


def hypervolume_curve(record: FrontRecord) -> list[tuple[float, float]]:
    """(tokens, hypervolume) of the front so far, never falling; empty without a reference point.

    The reference point is the objective of the sparsest allocation and the cost of the dense model in each resource:
    all that is worth having lies below it, and it is the same throughout. The volume is given as a share of the box
    from there to an objective of 0 and the cost of the sparsest allocation.
    """
    if record.worst is None or record.worst <= 0:
        return []
    span = record.dense - record.sparsest
    shares = (record.spent - record.sparsest) / np.where(span > 0, span, 1.0)
    points = np.column_stack([record.values / record.worst, shares])
    marks = sorted({int(mark) for mark in np.linspace(1, len(points), VOLUME_POINTS)})
    curve, front = [], points[:0]
    for begin, end in pairwise([0, *marks]):
        front = np.concatenate([front, points[begin:end]])
        front = front[nondominated(front)]
        curve.append((float(record.tokens[end - 1]), hypervolume(front, np.ones(points.shape[1]))))
    return curve


def front_point(folder: RunFolder, name: str, allowed: str) -> Profile:
    """The point of the run's front that `name` means: `pareto:K`, or `knee`.

    Args:
        allowed: what messages say may be given where there is no front.

    Raises:
        ConfigError: there is no front, or no such point on it.
    """
    done = folder.best.exists()
    points = [Profile.load(path) for path in folder.front] if done else []
    if not points:
        without = "it was not searched for one (nsga2 and nsga3 do, tpe and gp with resources)"
        what = without if done else "the search has not finished"
        raise ConfigError(f"--profile: {name}, but {folder.path} has no front: {what}; allowed: {allowed}")
    if name == "knee":
        return points[knee_index(points)]
    named = {f"pareto:{index}": profile for index, profile in enumerate(points)}
    if name not in named:
        raise ConfigError(
            f"--profile: {name} is no point of the front; allowed: pareto:0 to pareto:{len(points) - 1}, or knee"
        )
    return named[name]


def knee_index(points: Sequence[Profile]) -> int:
    """Index of the knee, by search values and the first resource."""
    found = [profile.figures["front"] for profile in points]
    name = found[0]["resources"][0]
    costs = np.array([profile.resources[name]["profile"] for profile in points])
    return knee(np.array([each["objective"] for each in found]), costs)
