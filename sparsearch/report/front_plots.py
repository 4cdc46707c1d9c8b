"""The charts of a multi-objective job: its front, and the hypervolume over the search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from sparsearch.report.data import FrontPoint, FrontReport, Objective
from sparsearch.report.svg import BLUE, GREEN, INK, ORANGE, VERMILLION, WIDTH, scale_tokens, scale_values, svg

MARKS = (("s", VERMILLION), ("^", GREEN))
"""Of the allocations that the front is compared with."""


def front_svg(front: FrontReport, objective: Objective) -> str:
    """The objective of the front's points against each resource, one panel a resource."""

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(front.resources), sharey=True, squeeze=False)[0]
        for axes, resource in zip(panels, front.resources, strict=True):
            _draw_front(axes, front, resource)
        shown = [*front.points, *front.references]
        low, high = min(each.objective.low for each in shown), max(each.objective.high for each in shown)
        scale_values(panels[0], "y", low, high)
        panels[0].set_ylabel(f"{objective.heading}, {front.panel}")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=4)

    label = f"{objective.name} of {len(front.points)} points of the front against {', '.join(front.resources)}"
    return svg("front", label, (WIDTH, 3.9), draw)


def _draw_front(axes: Axes, front: FrontReport, resource: str) -> None:
    ordered = sorted(front.points, key=lambda point: point.shares[resource])
    _draw_points(axes, ordered, resource, BLUE, "o", 4, "front")
    axes.plot(
        [point.shares[resource] for point in ordered], [point.objective.mean for point in ordered],
        color=BLUE, lw=1, alpha=0.5, zorder=1,
    )  # fmt: skip
    chosen = [point for point in front.points if point.name == front.knee]
    _draw_points(axes, chosen, resource, ORANGE, "D", 8, f"knee ({front.knee})")
    for point, (marker, color) in zip(front.references, MARKS, strict=False):
        _draw_points(axes, [point], resource, color, marker, 7, point.name)
    axes.xaxis.set_major_formatter(FuncFormatter(_percent))
    axes.set_xlabel(f"{resource}, share of the dense model")
    axes.margins(x=0.06, y=0.08)
    axes.grid(color=INK, alpha=0.12, lw=0.6)


def _draw_points(
    axes: Axes, points: Sequence[FrontPoint], resource: str, color: str, marker: str, size: float, label: str
) -> None:
    """Points with their intervals."""
    shares = [point.shares[resource] for point in points]
    low, high = ([getattr(point.objective, end) for point in points] for end in ("low", "high"))
    axes.vlines(shares, low, high, color=color, lw=1.6, alpha=0.8, zorder=2)
    axes.plot(shares, [point.objective.mean for point in points], marker, color=color, ms=size, label=label, zorder=3)


def _percent(share: float, _: int) -> str:
    return f"{100 * share:.4g}%"


def volume_svg(front: FrontReport) -> str:
    """The hypervolume of the front so far against the forward tokens evaluated."""
    tokens, volumes = (np.array(column) for column in zip(*front.volume, strict=True))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.step(tokens, volumes, where="post", color=BLUE, marker="o" if len(tokens) <= 40 else "", ms=3)
        scale_tokens(axes, tokens)
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        axes.set_xlabel("forward tokens evaluated")
        axes.set_ylabel("hypervolume, share of the box")
        axes.margins(y=0.08)
        axes.grid(axis="y", color=INK, alpha=0.12, lw=0.6)

    return svg("volume", "Hypervolume of the front so far against forward tokens evaluated", (WIDTH, 2.9), draw)
