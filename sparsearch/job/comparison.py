"""The held-out comparison of what a job found with the dense model and the allocators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sparsearch.evaluation.intervals import Interval, bootstrap_mean, bootstrap_perplexity, paired_difference
from sparsearch.job.loop import JournaledEvaluations, Milestone
from sparsearch.seeds import spawn
from sparsearch.space import Allocation, SearchSpace
from sparsearch.space.space import FloatArray

CURVE_POINTS = 10
CURVE_SEQUENCES = 32


@dataclass(frozen=True)
class Candidate:
    """A row of the comparison before it is measured.

    Attributes:
        seconds: what finding it took, the supernet not counted.
        forward_tokens: what finding it cost.
    """

    name: str
    allocation: Allocation
    seconds: float = 0.0
    forward_tokens: float = 0.0


def compare(
    candidates: Sequence[Candidate], heldout: JournaledEvaluations, space: SearchSpace, seed: int
) -> dict[str, Any]:
    """Measures `candidates` on the whole held-out panel; the last one is compared with all between dense and it.

    Returns:
        JSON-able `{"objective": {...}, "rows": [...], "differences": [...]}`, intervals as
        `{"mean", "low", "high"}`, 95 % bootstrap over sequences.
    """
    objectives = heldout.evaluator.objectives
    sequences = tuple(range(len(heldout.evaluator.panel)))
    tables = heldout.all_values(tuple(candidate.allocation for candidate in candidates), sequences)
    main = tables[objectives[0].name]
    entropy = tables.get("perplexity")
    rows = [
        {
            "name": candidate.name,
            "objective": _mean(main[index], seed),
            "perplexity": None if entropy is None else _perplexity(entropy[index], seed),
            "sparsity": space.sparsity(candidate.allocation),
            "resources": {name: space.cost(name, candidate.allocation) for name in space.resources},
            "seconds": candidate.seconds,
            "forward_tokens": candidate.forward_tokens,
        }
        for index, candidate in enumerate(candidates)
    ]
    differences = [
        {
            "candidate": candidates[-1].name,
            "reference": candidates[index].name,
            "interval": _paired(main[-1], main[index], seed),
        }
        for index in range(1, len(candidates) - 1)
    ]
    objective = {"name": objectives[0].title, "unit": objectives[0].unit}
    return {"objective": objective, "rows": rows, "differences": differences}


def curve(
    milestones: Sequence[Milestone],
    references: dict[str, Allocation],
    heldout: JournaledEvaluations,
    seed: int,
) -> dict[str, Any]:
    """The search curve on the first sequences of the held-out panel, at a few milestones even in their order.

    Returns:
        JSON-able `{"points": [[tokens, interval], ...], "references": {name: mean}, "sequences": n}`.
    """
    count = min(CURVE_SEQUENCES, len(heldout.evaluator.panel))
    sequences = tuple(range(count))
    shown = _spread(milestones, CURVE_POINTS)
    points = [
        [milestone.tokens, _mean(heldout.values((milestone.allocation,), sequences)[0], seed)] for milestone in shown
    ]
    means = {name: float(heldout.values((allocation,), sequences).mean()) for name, allocation in references.items()}
    return {"points": points, "references": means, "sequences": count}


def _spread(milestones: Sequence[Milestone], count: int) -> list[Milestone]:
    """At most `count` of them, the first and the last among them."""
    if len(milestones) <= count:
        return list(milestones)
    step = (len(milestones) - 1) / (count - 1)
    return [milestones[round(index * step)] for index in range(count)]


def _mean(values: FloatArray, seed: int) -> dict[str, float]:
    return _json(bootstrap_mean(values, spawn(seed, "bootstrap")))


def _perplexity(values: FloatArray, seed: int) -> dict[str, float] | None:
    """None where the model is so broken that the exponential overflows."""
    interval = bootstrap_perplexity(values, spawn(seed, "bootstrap"))
    return _json(interval) if math.isfinite(interval.high) else None


def _paired(a: FloatArray, b: FloatArray, seed: int) -> dict[str, float]:
    return _json(paired_difference(a, b, spawn(seed, "bootstrap")))


def _json(interval: Interval) -> dict[str, float]:
    return asdict(interval)
