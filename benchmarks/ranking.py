"""What the cells of a leaderboard say together: rows by searcher, the table and the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from common import Row, show

from sparsearch.report.text import format_tokens

SEARCHER, ALLOCATOR = "#0072B2", "#E69F00"
GREY = "#777777"
COLUMNS = 2
"""Panels of the picture beside each other."""


@dataclass(frozen=True)
class Cell:
    """One searcher with one seed at one target.

    Attributes:
        allocator: whether it needs no evaluations.
        tokens: forward-token equivalents that it spent within the budget.
        seconds: in the model, whenever that was, and in the searcher itself.
        objective: held-out `mean`, `low` and `high`, a 95 % bootstrap interval over sequences; None without an answer.
        perplexity: likewise; None also for a model that has none.
    """

    model: str
    target: float
    searcher: str
    allocator: bool
    seed: int
    tokens: float
    seconds: float
    objective: dict[str, float] | None = None
    perplexity: dict[str, float] | None = None


@dataclass(frozen=True)
class Standing:
    """A searcher's cells at one target: medians over the seeds that have an answer, None where none has."""

    searcher: str
    allocator: bool
    answers: int
    seeds: int
    tokens: float
    seconds: float
    objective: dict[str, float] | None
    perplexity: dict[str, float] | None
    least: float | None
    most: float | None

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> Standing:
        """From the cells of all seeds."""
        means = [cell.objective["mean"] for cell in cells if cell.objective is not None]
        return cls(
            cells[0].searcher, cells[0].allocator, len(means), len(cells),
            median(cell.tokens for cell in cells), median(cell.seconds for cell in cells),
            _medians([cell.objective for cell in cells]), _medians([cell.perplexity for cell in cells]),
            min(means, default=None), max(means, default=None),
        )  # fmt: skip

    @property
    def heldout(self) -> float:
        """What it is ranked by; infinite without an answer."""
        return math.inf if self.objective is None else self.objective["mean"]


def _medians(intervals: Sequence[dict[str, float] | None]) -> dict[str, float] | None:
    there = [interval for interval in intervals if interval is not None]
    return {key: median(each[key] for each in there) for key in ("mean", "low", "high")} if there else None


def ranked(cells: Sequence[Cell]) -> dict[tuple[str, float], list[Standing]]:
    """For each model and target the searchers, the least held-out objective first."""
    groups: dict[tuple[str, float], dict[str, list[Cell]]] = {}
    for cell in cells:
        groups.setdefault((cell.model, cell.target), {}).setdefault(cell.searcher, []).append(cell)
    return {
        key: sorted(map(Standing.of, found.values()), key=lambda row: (row.heldout, row.searcher))
        for key, found in groups.items()
    }


def table_rows(cells: Sequence[Cell]) -> list[Row]:
    """The table, a row a searcher and target."""
    return [
        {
            "model": Path(model).name, "target": f"{target:.0%}", "rank": place, "searcher": row.searcher,
            "held-out": _fixed(row.objective and row.objective["mean"], 4),
            "interval": _range(row.objective and (row.objective["low"], row.objective["high"]), 4),
            "seeds' range": _range(None if row.least is None else (row.least, row.most), 4),
            "perplexity": _fixed(row.perplexity and row.perplexity["mean"], 2),
            "its interval": _range(row.perplexity and (row.perplexity["low"], row.perplexity["high"]), 2),
            "tokens": format_tokens(row.tokens), "seconds": show(float(row.seconds)),
            "seeds": f"{row.answers}" if row.answers == row.seeds else f"{row.answers} of {row.seeds}",
        }
        for (model, target), rows in ranked(cells).items()
        for place, row in enumerate(rows, start=1)
    ]  # fmt: skip


def _fixed(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _range(ends: tuple[float | None, float | None] | None, decimals: int) -> str:
    return "-" if ends is None else f"{_fixed(ends[0], decimals)} to {_fixed(ends[1], decimals)}"


def draw(cells: Sequence[Cell], path: Path) -> None:
    """A panel a model and target: every searcher's held-out objective with its interval and the range of its seeds."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    panels = {key: [row for row in rows if row.objective] for key, rows in ranked(cells).items()}
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    height = 0.19 * max(map(len, panels.values())) + 0.9
    figure = Figure(figsize=(7.2 * columns, height * lines + 0.4), layout="constrained")
    axes = np.ravel(figure.subplots(lines, columns, squeeze=False))
    for axis, ((model, target), rows) in zip(axes, panels.items(), strict=False):
        for place, row in enumerate(rows):
            assert row.objective is not None
            colour = ALLOCATOR if row.allocator else SEARCHER
            axis.plot([row.objective["low"], row.objective["high"]], [place] * 2, color=colour, lw=1.2, alpha=0.6)
            axis.plot([row.least, row.most], [place] * 2, color=colour, lw=4, alpha=0.6, solid_capstyle="butt")
            axis.plot(row.heldout, place, "o", color=colour, ms=4.5)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_yticks(range(len(rows)), [row.searcher for row in rows], fontsize=8)
        axis.set_ylim(len(rows) - 0.3, -0.7)
        axis.grid(axis="x", which="major", color=GREY, alpha=0.25, lw=0.6)
        axis.set_title(f"{Path(model).name}, {target:.0%}", loc="left", fontsize=10)
        axis.set_xlabel("held-out objective, lower is better", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        spent = axis.secondary_yaxis("right")
        spent.set_yticks(range(len(rows)), [format_tokens(row.tokens) for row in rows], fontsize=8)
        spent.tick_params(axis="y", length=0)
        spent.spines["right"].set_visible(False)
        axis.set_title("tokens", loc="right", fontsize=9)
    for axis in axes[len(panels) :]:
        axis.remove()
    handles = [
        Line2D([], [], color=SEARCHER, marker="o", ms=4.5, lw=0, label="searcher"),
        Line2D([], [], color=ALLOCATOR, marker="o", ms=4.5, lw=0, label="allocator"),
        Line2D([], [], color=GREY, lw=1.2, label="95 % interval over sequences"),
        Line2D([], [], color=GREY, lw=4, alpha=0.6, label="range over seeds"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
