"""What runs of searchers on one supernet say about each other: curves, duels, tables and the picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
from common import Row

NEVER = float("inf")
"""Tokens, or a share of a rival's, that stand for not reaching it at all."""

EARLY = 1 / 20
"""Share of a rival's tokens that both are compared at."""

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#666666")


@dataclass(frozen=True)
class Result:
    """One run: its held-out curve and where it ended.

    Attributes:
        curve: (forward-token equivalents, held-out mean) of the allocations that it stood by.
        final: held-out mean of its answer, `low` to `high` its 95 % bootstrap interval over sequences.
        seconds: total, and in forwards (backwards included), switching, and the searcher itself; empty for a run
            that was answered from its journal.
    """

    model: str
    target: float
    searcher: str
    seed: int
    curve: list[tuple[float, float]]
    final: float
    low: float
    high: float
    tokens: float
    seconds: dict[str, float] = field(default_factory=dict)

    def reaches(self, value: float) -> float:
        """Tokens at which the held-out mean is first at or below `value`; infinite if it never is."""
        return next((tokens for tokens, mean in self.curve if mean <= value), NEVER)

    def at(self, tokens: float) -> float:
        """The held-out mean that it stood at after so many tokens: between the points of the curve, which are few, by
        a straight line over the logarithm of tokens; what it began with before the first, what it ended with after."""
        spent, means = zip(*self.curve, strict=True)
        return float(np.interp(np.log(tokens), np.log(spent), means))

    @property
    def elsewhere(self) -> float:
        """Share of the time outside forwards, backwards and the searcher's own inner problem."""
        inside = self.seconds["forward"] + self.seconds["searcher"]
        return 1 - inside / self.seconds["total"]


def summary(results: Sequence[Result]) -> list[Row]:
    """A row a searcher and target: medians over seeds, and the range of the final values."""
    rows = []
    for (model, target, searcher), group in grouped(results):
        finals = [result.final for result in group]
        timed = [result.elsewhere for result in group if "total" in result.seconds]
        rows.append({
            "model": Path(model).name, "target": f"{target:.0%}", "searcher": searcher, "seeds": len(group),
            "held-out": median(finals), "seeds' range": f"{min(finals):.4f} to {max(finals):.4f}",
            "interval": f"{median(r.low for r in group):.4f} to {median(r.high for r in group):.4f}",
            "Mtokens": median(result.tokens for result in group) / 1e6,
            "time elsewhere": f"{median(timed):.1%}" if timed else "-",
        })  # fmt: skip
    return rows


def duels(results: Sequence[Result]) -> list[Row]:
    """Every searcher against every rival, seed by seed, medians over seeds.

    `share` is the tokens at which a searcher first reaches the rival's final held-out value, divided by the
    rival's tokens; `lower at equal tokens` how much lower it ends than the rival stands at the same tokens, and
    `lower at 1/20` how much lower it stands than the rival does after a twentieth of the rival's tokens; `lower in
    the end` compares both ends, whatever they cost.
    """
    rows = []
    runs = dict(grouped(results))
    for (model, target, own), mine in runs.items():
        for (other_model, other_target, rival), theirs in runs.items():
            if (other_model, other_target) != (model, target) or rival == own:
                continue
            pairs = [(a, b) for a in mine for b in theirs if a.seed == b.seed]
            if not pairs:
                continue
            reached = [a.reaches(b.final) for a, b in pairs]
            shares = [tokens / b.tokens for tokens, (_, b) in zip(reached, pairs, strict=True)]
            rows.append({
                "model": Path(model).name, "target": f"{target:.0%}", "searcher": own, "rival": rival,
                "seeds": len(pairs), "never reached": shares.count(NEVER),
                "Mtokens to reach": _shown(median(reached) / 1e6), "share": _shown(median(shares)),
                "lower at equal tokens": median(1 - a.final / b.at(a.tokens) for a, b in pairs),
                "lower at 1/20": median(1 - a.at(EARLY * b.tokens) / b.at(EARLY * b.tokens) for a, b in pairs),
                "lower in the end": median(1 - a.final / b.final for a, b in pairs),
            })  # fmt: skip
    return rows


def _shown(value: float) -> float | str:
    """JSON knows no infinity."""
    return "never" if value == NEVER else value


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
    colours = dict(zip(sorted({result.searcher for result in results}), COLOURS, strict=False))
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
