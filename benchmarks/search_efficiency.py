"""How many tokens each searcher needs: held-out objective against forward-token equivalents, on one supernet.

Every searcher sees the same supernet, the same search panel and the same budget; a backward counts as two forwards, the
dense model's forwards for the teacher count for everybody. Held-out text steers nothing: it measures the allocations
that a searcher stood by. EvoPress runs its default schedule (400 generations of 64; 8/2/1 survivors; 2048, 16384 and
65536 tokens) and its super-fast one (400 of 16; 1/1; 512 and 8192), tokens divided by --factor, at least one sequence.

Every run is a journal below the results folder: a benchmark that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import RESULTS, Check, Row, finish

from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.evaluation.intervals import bootstrap_mean
from sparsearch.files import digest
from sparsearch.job.config import parse_config
from sparsearch.job.journal import Journal
from sparsearch.job.loop import JournaledEvaluations, Milestone, SearchLoop
from sparsearch.job.prepare import Prepared, prepare
from sparsearch.search import make_searcher
from sparsearch.seeds import spawn
from sparsearch.supernet import Supernet, Switcher, build_supernet

POINTS = 40
LEAD_DEFAULT, LEAD_FAST = 20, 4
NEVER = 1e6
"""Share of a rival's tokens that stands for not reaching it at all."""


@dataclass(frozen=True)
class Result:
    """One run: its held-out curve and where it ended."""

    model: str
    target: float
    searcher: str
    seed: int
    curve: list[tuple[float, float]]
    final: float
    low: float
    high: float
    tokens: float
    seconds: dict[str, float]

    def reaches(self, value: float) -> float | None:
        """Tokens at which the held-out mean is first at or below `value`."""
        return next((tokens for tokens, mean in self.curve if mean <= value), None)

    def at(self, tokens: float) -> float | None:
        """The held-out mean that it stood at after so many tokens."""
        return next((mean for spent, mean in reversed(self.curve) if spent <= tokens), None)


def searchers(factor: float, quick: bool) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name in the table to searcher and options."""
    generations = 3 if quick else 400
    default = {"generations": generations, "offspring": 64 if not quick else 8, "survivors": [8, 2, 1]}
    fast = {"generations": generations, "offspring": 16 if not quick else 4, "survivors": [1, 1]}
    return {
        "evopress": ("evopress", default | {"tokens": [max(1, int(n / factor)) for n in (2048, 16384, 65536)]}),
        "evopress-fast": ("evopress", fast | {"tokens": [max(1, int(n / factor)) for n in (512, 8192)]}),
        "random": ("random", {"evaluations": 6 if quick else 400, "sequences": 4 if quick else 16, "radius": 4}),
        "fisher": ("fisher", {"sequences": 4 if quick else 64}),
        "quadratic": ("quadratic", {"start": 4, "sequences": 2, "most": 4} if quick else {}),
    }


def prepare_model(name: str, target: float, quick: bool, length: int = 128) -> Prepared:
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
        "run": {"dir": str(RESULTS / "search_efficiency" / "run")},
    }
    if quick:
        job["space"] = {"levels": [0.3, 0.6, 0.9], "pruner": "magnitude"}
    from sparsearch.errors import ConfigError

    try:
        return prepare(parse_config(job))
    except ConfigError as error:
        if "language-modelling head" not in str(error):
            raise
        return prepare(parse_config(job | {"objective": {"objective": "hidden", "panel": panel}}))


def run(prepared: Prepared, supernet: Supernet, name: str, kind: str, options: dict[str, Any], seed: int) -> Result:
    """One searcher to its end, resumed from its journal where there is one, and its held-out curve."""
    target = float(prepared.config.budget["sparsity"])
    identity = [prepared.fingerprint, prepared.panels.search.fingerprint, target, kind, options, seed]
    folder = RESULTS / "search_efficiency" / digest(identity)
    folder.mkdir(parents=True, exist_ok=True)
    switcher = Switcher(prepared.model, supernet)
    panels = prepared.panels
    with Journal.create_or_open(folder / "journal.sqlite") as journal:
        done = journal.fact("result")
        if done is not None:
            return Result(**(done | {"curve": [tuple(point) for point in done["curve"]]}))
        searched = Evaluator(
            prepared.model, switcher, panels.search, prepared.objectives[:1], batch(panels.search.length)
        )
        searcher = make_searcher(kind, options, prepared.problem(supernet), seed)
        loop = SearchLoop(searcher, JournaledEvaluations(searched, journal, "search"))
        loop.run()
        heldout = Evaluator(
            prepared.model, switcher, panels.heldout, prepared.objectives[:1], batch(panels.heldout.length)
        )
        measured = JournaledEvaluations(heldout, journal, "heldout")
        rows = tuple(range(len(panels.heldout)))
        shown = spread(loop.milestones)
        table = measured.values(tuple(milestone.allocation for milestone in shown), rows)
        interval = bootstrap_mean(table[-1], spawn(seed, "bootstrap"))
        spent = searched.spent
        seconds = {"forward": spent.forward_seconds, "switch": spent.switch_seconds}
        curve = [(milestone.tokens, float(values.mean())) for milestone, values in zip(shown, table, strict=True)]
        result = Result(
            prepared.model.name,
            target,
            name,
            seed,
            curve,
            interval.mean,
            interval.low,
            interval.high,
            loop.tokens,
            seconds,
        )
        journal.set_fact("result", result.__dict__)
        switcher.restore()
        return result


def batch(length: int) -> int:
    """Sequences per forward."""
    return max(1, 4096 // length)


def spread(milestones: Sequence[Milestone]) -> list[Milestone]:
    """At most `POINTS` milestones, evenly over the logarithm of tokens, the last one among them."""
    if len(milestones) <= POINTS:
        return list(milestones)
    logs = np.log([milestone.tokens for milestone in milestones])
    wanted = np.linspace(logs[0], logs[-1], POINTS)
    chosen = sorted({int(np.abs(logs - value).argmin()) for value in wanted} | {len(milestones) - 1})
    return [milestones[index] for index in chosen]


def summary(results: Sequence[Result]) -> list[Row]:
    """A row a searcher and target: medians over seeds."""
    rows = []
    for (model, target, searcher), group in grouped(results):
        rows.append({
            "model": Path(model).name, "target": f"{target:.0%}", "searcher": searcher, "seeds": len(group),
            "held-out": median(result.final for result in group),
            "interval": f"{median(r.low for r in group):.4f} to {median(r.high for r in group):.4f}",
            "Mtokens": median(result.tokens for result in group) / 1e6,
        })  # fmt: skip
    return rows


def duels(results: Sequence[Result], rival: str) -> list[Row]:
    """Tokens at which `quadratic` first reaches the final value of `rival`, seed by seed."""
    found = []
    for (model, target, searcher), group in grouped(results):
        if searcher != rival:
            continue
        others = [r for r in results if (r.model, r.target, r.searcher) == (model, target, "quadratic")]
        reached = [own.reaches(other.final) for own, other in zip(others, group, strict=False)]
        shares = [tokens / other.tokens if tokens else NEVER for tokens, other in zip(reached, group, strict=False)]
        # At the tokens that quadratic took in all: how much lower it ends than the rival stands then.
        lower = [
            1 - own.final / value for own, other in zip(others, group, strict=False) if (value := other.at(own.tokens))
        ]
        found.append({
            "model": Path(model).name, "target": f"{target:.0%}", "rival": rival, "seeds": len(group),
            "never reached": shares.count(NEVER), "share of tokens": median(shares),
            "lower at equal tokens": median(lower) if lower else 0.0,
        })  # fmt: skip
    return found


def grouped(results: Iterable[Result]) -> list[tuple[tuple[str, float, str], list[Result]]]:
    """Results by model, target and searcher, in seed order."""
    groups: dict[tuple[str, float, str], list[Result]] = {}
    for result in sorted(results, key=lambda r: (r.model, r.target, r.searcher, r.seed)):
        groups.setdefault((result.model, result.target, result.searcher), []).append(result)
    return list(groups.items())


def draw(results: Sequence[Result], path: Path) -> None:
    """Held-out objective against tokens, a panel a model and target."""
    from matplotlib.figure import Figure

    cells = sorted({(result.model, result.target) for result in results})
    names = sorted({result.searcher for result in results})
    colours = dict(zip(names, ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"), strict=False))
    figure = Figure(figsize=(4.2 * len(cells), 3.6), layout="constrained")
    for axes, (model, target) in zip(np.ravel(figure.subplots(1, len(cells), squeeze=False)), cells, strict=True):
        for result in results:
            if (result.model, result.target) == (model, target):
                tokens, means = zip(*[*result.curve, (result.tokens, result.final)], strict=True)
                marker = "o" if len(result.curve) == 1 else None
                axes.plot(
                    tokens, means, color=colours[result.searcher], marker=marker, markersize=3, linewidth=1, alpha=0.8
                )
        axes.set(
            xscale="log", yscale="log", title=f"{Path(model).name}, {target:.0%}", xlabel="forward-token equivalents"
        )
    figure.axes[0].set_ylabel("held-out objective")
    handles = [figure.axes[0].plot([], [], color=colour, label=name)[0] for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="checkpoint folder, repeatable (default: the embedded model)")
    parser.add_argument("--targets", type=float, nargs="+", default=[0.5, 0.6, 0.7, 0.8])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--length", type=int, default=128, help="tokens of a sequence (default %(default)s)")
    parser.add_argument("--threads", type=int, help="of torch (default: its own)")
    parser.add_argument(
        "--factor", type=float, default=32, help="published tokens are divided by it (default %(default)s)"
    )
    parser.add_argument("--only", nargs="+", help="these searchers alone")
    parser.add_argument("--out", type=Path, default=RESULTS / "search_efficiency.json")
    parser.add_argument("--quick", action="store_true", help="small and inexact, in seconds: does it still run?")
    given = parser.parse_args()
    targets, seeds = (given.targets[:1], 1) if given.quick else (given.targets, given.seeds)
    if given.threads:
        torch.set_num_threads(given.threads)
    results = []
    for name in given.model or ["reference"]:
        for target in targets:
            prepared = prepare_model(name, target, given.quick, given.length)
            supernet = build_supernet(prepared.model, prepared.build_plan, RESULTS / "supernets" / prepared.fingerprint)
            for label, (kind, options) in searchers(given.factor, given.quick).items():
                for seed in range(seeds) if not given.only or label in given.only else ():
                    results.append(run(prepared, supernet, label, kind, options, seed))
                    print(json.dumps({k: v for k, v in results[-1].__dict__.items() if k != "curve"}), flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    draw(results, given.out.with_suffix(".png"))
    comparisons = [row for rival in ("evopress", "evopress-fast") for row in duels(results, rival)]
    checks = [
        Check(
            f"share of the tokens of {row['rival']}, {row['model']} {row['target']}", row["share of tokens"], 1 / lead
        )
        for row in comparisons
        for lead in [LEAD_DEFAULT if row["rival"] == "evopress" else LEAD_FAST]
    ]
    finish(given, summary(results), checks, comparisons=comparisons, curves=[result.__dict__ for result in results])


if __name__ == "__main__":
    main()
