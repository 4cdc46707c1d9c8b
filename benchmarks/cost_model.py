"""How well a table of measured products predicts whole models: random allocations that it has not seen.

Models: the embedded one, and blocks of the random Llama of `end_to_end.py`, 8 of its 16 and a small vocabulary, so that
linears of real shapes are most of what it computes. Each is measured as `sparsearch measure` does it; then allocations
of a mean sparsity between 30 and 90 %, every site at a level of its own on the default grid, are predicted and run on
the runtime's modules, dense and all of them in turning order in every round, medians over rounds. One token: decoding
behind a short cache. With one thread times are processor time. `against dense` is the error of the predicted ratio to
dense, which is what a budget such as `0.6x` bounds; a machine that is slower than when it was measured does not show
in it. `spread` is how far the ratios of the two halves of the rounds are apart: no prediction can be better. Nor can a
rank correlation be higher than that of these halves, which is printed for each case (`halves_agree` in the JSON): where
all allocations take about the same time, as those of the embedded model with one token, it is far below 1.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import RESULTS, SEED, Check, finish
from hardware_table import measured, say, timed_allocations
from large_model import large
from scipy.stats import spearmanr

from sparsearch.api import DEFAULT_LEVELS, search_space
from sparsearch.hardware.cost_model import latency, with_latency
from sparsearch.hardware.model_runs import architecture
from sparsearch.model.load import load_model
from sparsearch.model.prunable import PrunableModel
from sparsearch.space import Allocation, SearchSpace

TOKENS, QUICK_TOKENS = (1, 16, 256), (1,)
ALLOCATIONS, QUICK_ALLOCATIONS = 24, 3
ROUNDS, QUICK_ROUNDS = 31, 3
MEDIAN, WORST, RANK = 0.05, 0.10, 0.95
"""Relative errors at most, and the rank correlation at least."""

DENSE = "dense"
SPREAD = 3
"""Levels that a site lies off its allocation's mean at most."""

BLOCKS, VOCABULARY = 8, 4096
"""With 4 blocks the sparsest allocations fit into a cache of 32 MB, which a shared machine has on some days only."""

MODELS: dict[str, Callable[[bool], PrunableModel]] = {
    "large": lambda quick: large(quick, BLOCKS, VOCABULARY),
    "reference": lambda quick: load_model(None, device="cpu"),
}


@dataclass(frozen=True)
class Case:
    """Which figures belong together."""

    model: str
    threads: int
    tokens: int

    def __str__(self) -> str:
        return f"{self.model}, {self.threads} threads, {self.tokens} tokens"


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
    case: Case, space: SearchSpace, allocations: dict[str, Allocation], taken: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """A row an allocation, dense left out; `taken` are seconds in every round."""
    seconds, halves = medians(taken), halves_of(taken)
    dense = space.cost("latency", allocations[DENSE]) / seconds[DENSE]
    rows = []
    for name, allocation in allocations.items():
        if name == DENSE:
            continue
        predicted = space.cost("latency", allocation)
        first, second = (half[name] for half in halves)
        rows.append({
            "allocation": name, "model": case.model, "threads": case.threads, "tokens": case.tokens,
            "sparsity": f"{space.sparsity(allocation):.1%}",
            "predicted ms": 1e3 * predicted, "measured ms": 1e3 * seconds[name],
            "of dense": seconds[name] / seconds[DENSE], "error": abs(predicted / seconds[name] - 1),
            "against dense": abs(predicted / seconds[name] / dense - 1), "spread": abs(first / second - 1),
        })  # fmt: skip
    return rows


def halves_of(taken: dict[str, np.ndarray]) -> list[dict[str, float]]:
    """Medians as shares of dense, in two halves of the rounds; both orders of the turn are in each."""
    pairs = np.arange(len(taken[DENSE])) // 2
    halves = [medians({name: row[pairs % 2 == half] for name, row in taken.items()}) for half in (0, 1)]
    return [{name: seconds / half[DENSE] for name, seconds in half.items()} for half in halves]


def halves_agree(taken: dict[str, np.ndarray]) -> float:
    """Rank correlation of the two halves, dense left out."""
    first, second = ([share for name, share in half.items() if name != DENSE] for half in halves_of(taken))
    return float(spearmanr(first, second).statistic)


def medians(taken: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(np.median(row)) for name, row in taken.items()}


def checks_of(rows: list[dict[str, Any]], case: Case) -> list[Check]:
    """The figures of one case."""
    predicted, taken = ([row[column] for row in rows] for column in ("predicted ms", "measured ms"))
    rank = float(spearmanr(predicted, taken).statistic)
    return [
        *(
            check
            for column in ("error", "against dense")
            for check in (
                Check(f"{case}: {column}, median", median(row[column] for row in rows), MEDIAN),
                Check(f"{case}: {column}, worst", max(row[column] for row in rows), WORST),
            )
        ),
        Check(f"{case}: 1 - rank correlation", 1 - rank, 1 - RANK),
    ]


def measure_cases(
    label: str, threads: int, given: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[Check], dict[str, Any]]:
    """Rows and checks of one model with one number of threads, and what its calibrations were."""
    counts, count = (QUICK_TOKENS, QUICK_ALLOCATIONS) if given.quick else (TOKENS, ALLOCATIONS)
    torch.set_num_threads(threads)
    rows: list[dict[str, Any]] = []
    checks: list[Check] = []
    calibrations = {}
    with tempfile.TemporaryDirectory() as folder:
        whole, table = measured(Path(folder) / "table.json", MODELS[label](given.quick), counts, given.quick)
        plain, runs = search_space(whole.model, DEFAULT_LEVELS), table.runs_of(architecture(whole.model))
        allocations = random_allocations(plain, count)
        for tokens in counts:
            case = Case(label, threads, tokens)
            found = latency(plain, table, tokens, whole.model.storage_name, runs)
            say(f"{case}: scale {found.scale:.3f}, error of the calibration {found.error:.1%}")
            space = with_latency(plain, found, 4)
            taken = timed_allocations(whole, table, space, allocations, tokens, given.rounds)
            agree = halves_agree(taken)
            say(f"{case}: rank correlation of the halves of the rounds {agree:.3f}")
            calibrations[str(case)] = {
                "scale": found.scale, "error": found.error, "constant": found.constant, "halves_agree": agree,
            }  # fmt: skip
            rows += (own := rows_of(case, space, allocations, taken))
            checks += checks_of(own, case)
    return rows, checks, calibrations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="fewer where they last long")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--out", type=Path, default=RESULTS / "cost_model.json")
    parser.add_argument("--quick", action="store_true", help="small and inexact, in seconds: does it still run?")
    given = parser.parse_args()
    given.rounds = QUICK_ROUNDS if given.quick else given.rounds
    rows: list[dict[str, Any]] = []
    checks: list[Check] = []
    calibrations: dict[str, Any] = {}
    for threads in given.threads:
        for label in given.models:
            more = measure_cases(label, threads, given)
            rows, checks, calibrations = rows + more[0], checks + more[1], calibrations | more[2]
    finish(given, rows, checks, calibrations=calibrations)


if __name__ == "__main__":
    main()
