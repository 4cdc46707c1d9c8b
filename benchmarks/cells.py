"""What the comparisons of searchers share: a model's job at one target, and runs that are journals in a work folder.

A cell is one searcher with one seed on one supernet. Its journal lies in a folder named by everything that decides
its figures, so a benchmark that was stopped goes on where it was, and one that has run answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS

from sparsearch.errors import ConfigError
from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.files import digest
from sparsearch.job.config import parse_config
from sparsearch.job.journal import Journal
from sparsearch.job.loop import JournaledEvaluations, Milestone
from sparsearch.job.prepare import Prepared, prepare
from sparsearch.model.panel import Panel
from sparsearch.search import check_searcher
from sparsearch.supernet import Supernet, Switcher, build_supernet

POINTS = 20
BATCH_TOKENS = 4096


def cell_parser(text: str | None, work: Path, out: Path) -> argparse.ArgumentParser:
    """What all comparisons of searchers are asked on the command line; `work` and `out` are defaults."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="checkpoint folder, repeatable (default: the embedded model)")
    parser.add_argument("--targets", type=float, nargs="+", default=[0.5, 0.6, 0.7, 0.8])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--length", type=int, default=128, help="tokens of a sequence (default %(default)s)")
    parser.add_argument("--threads", type=int, help="of torch (default: its own)")
    parser.add_argument(
        "--work", type=Path, default=work, help="folder of journals and supernets (default %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--quick", action="store_true", help="small and inexact, in seconds: does it still run?")
    return parser


def prepare_model(
    name: str, target: float, quick: bool, length: int = 128, targets: Sequence[str] = ("*",)
) -> Prepared:
    """The model's job at one target: KL where it has a vocabulary, else the error of the hidden states."""
    panel = (
        {"calibration": 8, "search": 8, "heldout": 8, "length": 32}
        if quick
        else {"calibration": 256, "search": 512, "heldout": 256, "length": length}
    )
    job = {
        "model": name,
        "budget": {"sparsity": target},
        "objective": {"objective": "kl", "panel": panel},
        "run": {"dir": str(RESULTS / "run")},
    }
    if quick:
        job["space"] = {"levels": [0.3, 0.6, 0.9], "pruner": "magnitude", "targets": list(targets)}
    try:
        return prepare(parse_config(job))
    except ConfigError as error:
        if "language-modelling head" not in str(error):
            raise
        return prepare(parse_config(job | {"objective": {"objective": "hidden", "panel": panel}}))


def built(prepared: Prepared, work: Path) -> Supernet:
    """The job's supernet below `work`, built where it is not there yet."""
    return build_supernet(prepared.model, prepared.build_plan, work / "supernets" / prepared.fingerprint)


def identity(prepared: Prepared, kind: str, options: Mapping[str, Any], seed: int) -> list[Any]:
    """What decides the figures of a run; every option as it is in force, so that a new default is a new run."""
    in_force = asdict(check_searcher(kind, dict(options)))
    target = float(prepared.config.budget["sparsity"])
    return [prepared.fingerprint, prepared.panels.search.fingerprint, target, kind, in_force, seed]


@contextmanager
def journal_of(work: Path, identity: Sequence[Any]) -> Iterator[Journal]:
    """The journal of the run that `identity` stands for."""
    folder = work / digest(identity)
    folder.mkdir(parents=True, exist_ok=True)
    with Journal.create_or_open(folder / "journal.sqlite") as journal:
        yield journal


def evaluations(
    prepared: Prepared, switcher: Switcher, journal: Journal, panel: Panel, name: str, objectives: int = 1
) -> JournaledEvaluations:
    """Evaluations of the first so many `objectives` on a panel, which the journal knows as `name`."""
    evaluator = Evaluator(prepared.model, switcher, panel, prepared.objectives[:objectives], batch(panel.length))
    return JournaledEvaluations(evaluator, journal, name)


def batch(length: int) -> int:
    """Sequences per forward."""
    return max(1, BATCH_TOKENS // length)


def spread(milestones: Sequence[Milestone]) -> list[Milestone]:
    """At most `POINTS` milestones, evenly over the logarithm of tokens, the last one among them."""
    if len(milestones) <= POINTS:
        return list(milestones)
    logs = np.log([milestone.tokens for milestone in milestones])
    wanted = np.linspace(logs[0], logs[-1], POINTS)
    chosen = sorted({int(np.abs(logs - value).argmin()) for value in wanted} | {len(milestones) - 1})
    return [milestones[index] for index in chosen]
