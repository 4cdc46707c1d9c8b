"""The charts that every report has, as SVG text: the same data gives the same bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from statistics import mean

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sparsearch.evaluation.intervals import Interval
from sparsearch.report.data import ComparisonRow, Objective
from sparsearch.report.svg import (
    BLUE,
    GREEN,
    INK,
    LINE_STYLES,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    WIDTH,
    scale_tokens,
    scale_values,
    shortened,
    svg,
)
from sparsearch.report.text import format_interval
from sparsearch.space import Profile

PANELS_PER_ROW = 4


def allocation_svg(best: Profile, uniform: Profile | None) -> str:
    """How much each block loses, one panel a kind of site, as bars from the uniform allocation.

    Sites of a kind that differ only in a number (experts) share a panel: the bar shows their mean, a thin
    line their range. Without `uniform` the bars start at the overall sparsity.
    """
    values = _by_kind(best)
    if uniform is None:
        baselines = {kind: dict.fromkeys(blocks, best.sparsity) for kind, blocks in values.items()}
    else:
        baselines = {
            kind: {block: mean(s) for block, s in blocks.items()} for kind, blocks in _by_kind(uniform).items()
        }
    columns = min(PANELS_PER_ROW, len(values))
    rows = math.ceil(len(values) / columns)
    last_block = max(block for blocks in values.values() for block in blocks)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axis, kind in zip(axes, values, strict=False):
            _draw_kind(axis, values[kind], baselines[kind])
            axis.set_title(shortened(kind), loc="left")
        for axis in axes[len(values) :]:
            axis.remove()
        # A removed panel takes the block numbers of its column along: give them back to the one above it.
        for axis in axes[max(0, len(values) - columns) : len(values)]:
            axis.tick_params(labelbottom=True)
        axes[0].set(xlim=(-0.7, last_block + 0.7), ylim=(0, 1))
        axes[0].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
        axes[0].yaxis.set_major_formatter(PercentFormatter(1.0))
        figure.supxlabel("block", fontsize=9)
        figure.supylabel("weights removed", fontsize=9)
        name = "overall sparsity" if uniform is None else "uniform"
        handles: list[Artist] = [
            Line2D([], [], color=INK, lw=1, label=name),
            Patch(color=VERMILLION, label=f"pruned more than {name}"),
            Patch(color=BLUE, label=f"pruned less than {name}"),
        ]
        if any(len(sites) > 1 for blocks in values.values() for sites in blocks.values()):
            handles.append(Line2D([], [], color=INK, lw=0.7, marker="|", ls="", label="range within the block"))
        figure.legend(handles=handles, loc="outside upper left", ncols=4)

    label = f"Weights removed per block for {len(values)} kinds of sites, compared with a uniform allocation"
    return svg("allocation", label, (WIDTH, 0.8 + 1.55 * rows), draw)


def curve_svg(
    curve: Sequence[tuple[float, Interval]],
    references: Mapping[str, float],
    objective: Objective,
    panel: str,
) -> str:
    """The objective of the best allocation so far against the forward tokens spent, with its interval.

    Args:
        curve: (forward tokens, interval), tokens increasing.
        references: name to a horizontal line.
        objective: for the axis.
        panel: which sequences the figures are of.
    """
    tokens = np.array([point for point, _ in curve])
    middle, low, high = (
        np.array([getattr(interval, part) for _, interval in curve]) for part in ("mean", "low", "high")
    )

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        axis.fill_between(tokens, low, high, step="post", color=BLUE, alpha=0.25, lw=0)
        marker = "o" if len(tokens) <= 40 else ""
        axis.step(
            tokens,
            middle,
            where="post",
            color=BLUE,
            marker=marker,
            ms=3.5,
            label="best so far, with interval",
        )
        # The band ends where the last point begins, so that point gets its interval as a line.
        axis.vlines(tokens[-1], low[-1], high[-1], color=BLUE, lw=1)
        for number, (name, value) in enumerate(references.items()):
            color = (VERMILLION, GREEN, PURPLE, ORANGE, SKY)[number % 5]
            style = LINE_STYLES[number % len(LINE_STYLES)]
            axis.axhline(value, color=color, ls=style, lw=1.6, label=name)
        scale_tokens(axis, tokens)
        axis.set_xlabel("forward tokens spent (a backward pass counts as two forwards)")
        axis.set_ylabel(f"{objective.heading}, {panel}")
        axis.margins(y=0.08)
        axis.grid(axis="y", color=INK, alpha=0.12, lw=0.6)
        figure.legend(loc="outside upper left", ncols=4)

    label = f"{objective.name} of the best allocation so far against forward tokens"
    return svg("curve", label, (WIDTH, 3.6), draw)


def comparison_svg(rows: Sequence[ComparisonRow], objective: Objective, highlight: str) -> str:
    """The objective of every row with its interval; `highlight` names the row to stand out.

    Rows at exactly 0 (a model compared with itself) and infinite ones are left to the table.
    """
    shown = [row for row in rows if row.objective.mean != 0 and math.isfinite(row.objective.high)]
    positions = range(len(shown))

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for position, row in zip(positions, shown, strict=True):
            interval, color = row.objective, BLUE if row.name == highlight else INK
            axis.plot([interval.low, interval.high], [position, position], color=color, lw=2, solid_capstyle="butt")
            axis.plot(interval.mean, position, "o", color=color, ms=6)
        low = min((row.objective.low for row in shown), default=0.0)
        high = max((row.objective.high for row in shown), default=0.0)
        scale_values(axis, "x", low, high)
        axis.grid(axis="x", color=INK, alpha=0.12, lw=0.6)
        axis.set_yticks(positions, [shortened(row.name) for row in shown])
        axis.set_ylim(len(shown) - 0.5, -0.5)
        axis.tick_params(axis="y", length=0)
        figures = axis.secondary_yaxis("right")
        figures.set_yticks(positions, [format_interval(row.objective) for row in shown])
        figures.tick_params(axis="y", length=0)
        figures.spines["right"].set_visible(False)
        axis.set_xlabel(f"held-out {objective.heading}, lower is better")

    label = f"Held-out {objective.name} of {len(shown)} models with confidence intervals"
    return svg("comparison", label, (WIDTH, 0.9 + 0.34 * len(shown)), draw)


def _by_kind(profile: Profile) -> dict[str, dict[int, list[float]]]:
    """Kind, numbers in it replaced by `*`, to block to the sparsities of its sites."""
    kinds: dict[str, dict[int, list[float]]] = {}
    for site in profile.sites:
        kind = re.sub(r"\d+", "*", site["kind"])
        kinds.setdefault(kind, {}).setdefault(site["block"], []).append(site["sparsity"])
    return kinds


def _draw_kind(axis: Axes, values: Mapping[int, list[float]], baselines: Mapping[int, float]) -> None:
    blocks = np.array(list(values))
    middle, low, high = (np.array([reduce(values[block]) for block in values]) for reduce in (mean, min, max))
    base = np.array([baselines[block] for block in values])
    colors = [VERMILLION if more else BLUE for more in middle > base]
    axis.bar(blocks, middle - base, bottom=base, width=0.8, color=colors, alpha=0.75, lw=0)
    axis.hlines(middle, blocks - 0.4, blocks + 0.4, color=colors, lw=1.6)
    axis.vlines(blocks[high > low], low[high > low], high[high > low], color=INK, lw=0.7)
    axis.hlines(base, blocks - 0.5, blocks + 0.5, color=INK, lw=1)
    axis.grid(axis="y", color=INK, alpha=0.12, lw=0.6)
    axis.set_axisbelow(True)
