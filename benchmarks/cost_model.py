"""How well a table of measured products predicts whole models: random allocations that it has not seen.

The embedded model is measured as `sparsearch measure` does it; then allocations of a mean sparsity between 30 and
90 %, every site at a level of its own on the default grid, are predicted and run on the runtime's modules, dense
and all of them in turning order in every round, medians over rounds. One token: decoding behind a short cache.
`against dense` is the error of the predicted ratio to dense, whose time is taken in the same rounds: a machine that
has become slower since it was measured does not show in it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import SEED, Check, finish, parse_arguments
from hardware_table import measured, say, timed_allocations
from scipy.stats import spearmanr

from sparsearch.api import DEFAULT_LEVELS, search_space
from sparsearch.hardware.cost_model import latency, with_latency
from sparsearch.hardware.model_runs import architecture
from sparsearch.space import Allocation, SearchSpace

TOKENS, QUICK_TOKENS = (1, 16, 256), (1,)
ALLOCATIONS, QUICK_ALLOCATIONS = 24, 3
MEDIAN, WORST, RANK = 0.05, 0.10, 0.95
"""Relative errors at most, and the rank correlation at least."""

DENSE = "dense"
SPREAD = 3
"""Levels that a site lies off its allocation's mean at most."""


def random_allocations(space: SearchSpace, count: int) -> dict[str, Allocation]:
    """Dense, and allocations of rising mean sparsity with every site at random around it."""
    rng = np.random.default_rng(SEED)
    found = {DENSE: space.dense()}
    for number, mean in enumerate(np.linspace(0.3, 0.9, count)):
        nearest = np.nanargmin(np.abs(space.sparsities - mean), axis=1)
        levels = nearest + rng.integers(-SPREAD, SPREAD + 1, len(space))
        found[f"random {number}"] = Allocation.of(np.clip(levels, 0, space.counts - 1))
    return found


def rows_of(
    space: SearchSpace, allocations: dict[str, Allocation], seconds: dict[str, float], tokens: int
) -> list[dict[str, Any]]:
    """A row an allocation, dense left out."""
    dense = space.cost("latency", allocations[DENSE]) / seconds[DENSE]
    rows = []
    for name, allocation in allocations.items():
        if name == DENSE:
            continue
        predicted = space.cost("latency", allocation)
        rows.append({
            "allocation": name, "tokens": tokens, "sparsity": f"{space.sparsity(allocation):.1%}",
            "predicted ms": 1e3 * predicted, "measured ms": 1e3 * seconds[name],
            "error": abs(predicted / seconds[name] - 1),
            "against dense": abs(predicted / seconds[name] / dense - 1),
        })  # fmt: skip
    return rows


def checks_of(rows: list[dict[str, Any]], tokens: int) -> list[Check]:
    """The figures of one token count."""
    own = [row for row in rows if row["tokens"] == tokens]
    predicted, taken = ([row[column] for row in own] for column in ("predicted ms", "measured ms"))
    rank = float(spearmanr(predicted, taken).statistic)
    return [
        Check(f"{tokens} tokens: median error", median(row["error"] for row in own), MEDIAN),
        Check(f"{tokens} tokens: worst error", max(row["error"] for row in own), WORST),
        Check(f"{tokens} tokens: 1 - rank correlation", 1 - rank, 1 - RANK),
    ]


def main() -> None:
    given = parse_arguments("cost_model", __doc__, rounds=9, threads=(1,))
    counts, count = (QUICK_TOKENS, QUICK_ALLOCATIONS) if given.quick else (TOKENS, ALLOCATIONS)
    torch.set_num_threads(given.threads[0])
    rows: list[dict[str, Any]] = []
    calibrations = {}
    with tempfile.TemporaryDirectory() as folder:
        whole, table = measured(Path(folder) / "table.json", counts, given.quick)
        plain = search_space(whole.model, DEFAULT_LEVELS)
        allocations = random_allocations(plain, count)
        for tokens in counts:
            runs = table.runs_of(architecture(whole.model))
            found = latency(plain, table, tokens, whole.model.storage_name, runs)
            calibrations[tokens] = {"scale": found.scale, "error": found.error, "constant": found.constant}
            say(f"{tokens} tokens: scale {found.scale:.3f}, error of the calibration {found.error:.1%}")
            space = with_latency(plain, found, 4)
            seconds = timed_allocations(whole, table, space, allocations, tokens, 3 if given.quick else given.rounds)
            rows += rows_of(space, allocations, seconds, tokens)
    checks = [check for tokens in counts for check in checks_of(rows, tokens)]
    finish(given, rows, checks, calibrations=calibrations)


if __name__ == "__main__":
    main()
