"""The report as one HTML page that needs nothing but itself: no scripts, no fonts, no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sparsearch.report.data import ReportData
from sparsearch.report.front import front_cells, volume_text
from sparsearch.report.front_plots import front_svg, volume_svg
from sparsearch.report.plots import allocation_svg, comparison_svg, curve_svg
from sparsearch.report.table import comparison_cells
from sparsearch.report.text import format_interval, headline
from sparsearch.space import show_amount

UNFINISHED = "The search has not finished: this is the front of what it has evaluated so far."


def render(data: ReportData) -> str:
    """The page. The same data gives the same bytes; every text of the data is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    first = data.differences[0] if data.differences else None
    heading, cells = comparison_cells(data.rows, data.objective)
    front = data.front
    points = None if front is None else front_cells(front, data.objective)
    return environment.get_template("page.html.j2").render(
        data=data,
        verdict=headline(first, data.objective) if data.finished else UNFINISHED,
        kind=first.verdict.split()[0] if first else "no",
        heading=heading,
        cells=cells,
        highlight=first.candidate if first else "",
        differences=[(d.candidate, d.reference, format_interval(d.interval), d.verdict) for d in data.differences],
        charts={name: Markup(svg) for name, svg in _charts(data).items()},
        front=points,
        volume="" if front is None or not front.volume else volume_text(front),
        resources=_resources(data),
        sites=_sites(data),
    )


def _charts(data: ReportData) -> dict[str, str]:
    """Chart name to SVG, of the charts that there is something to draw for."""
    charts = {}
    if any(row.objective.mean for row in data.rows):
        highlight = data.differences[0].candidate if data.differences else ""
        charts["comparison"] = comparison_svg(data.rows, data.objective, highlight)
    if "best" in data.profiles:
        charts["allocation"] = allocation_svg(data.profiles["best"], data.profiles.get("uniform"))
    if data.curve:
        charts["curve"] = curve_svg(data.curve, data.curve_references, data.objective, data.curve_panel)
    if data.front is not None:
        charts["front"] = front_svg(data.front, data.objective)
        if data.front.volume:
            charts["volume"] = volume_svg(data.front)
    return charts


def _resources(data: ReportData) -> list[tuple[str, str, str, str]]:
    """Resource, dense, pruned, ratio."""
    best = data.profiles.get("best")
    amounts: dict[str, dict[str, float]] = best.resources if best else {}
    return [
        (
            name,
            show_amount(name, amount["dense"]),
            show_amount(name, amount["profile"]),
            f"{amount['profile'] / amount['dense']:.3f}",
        )
        for name, amount in sorted(amounts.items())
        if amount["dense"]
    ]


def _sites(data: ReportData) -> list[tuple[Any, ...]]:
    """Name, shape, level and sparsity of every site, and what uniform gives it."""
    best, uniform = data.profiles.get("best"), data.profiles.get("uniform")
    under_uniform = {site["name"]: site["level"] for site in uniform.sites} if uniform else {}
    return [
        (
            site["name"], " × ".join(map(str, site["shape"])), site["level"],
            f"{site['sparsity']:.1%}", under_uniform.get(site["name"], "–"),
        )
        for site in (best.sites if best else ())
    ]  # fmt: skip
