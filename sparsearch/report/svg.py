"""What all charts share: colours, style, scales, and how a figure becomes SVG text.

What is black ink here becomes `currentColor`, so that a chart inside a page follows the page's text colour,
light or dark. The other colours are those of the Okabe-Ito palette, which colour-blind readers tell apart,
with a lighter blue that shows on dark paper too.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from html import escape
from typing import Literal

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullLocator

BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = (
    "#2386c8", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9",
)  # fmt: skip
LINE_STYLES: tuple[object, ...] = ("--", ":", "-.", (0, (6, 2)), (0, (3, 1, 1, 1, 1, 1)))
INK = "#010203"
STYLE = {
    "text.parse_math": False, "font.family": ["DejaVu Sans"], "font.size": 9, "axes.titlesize": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "legend.frameon": False,
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
}  # fmt: skip
WIDTH = 9.6
LONGEST_TITLE = 30
WIDE_RANGE = 20


def scale_tokens(axis: Axes, tokens: np.ndarray) -> None:
    """A logarithmic axis where the tokens span decades; a start at 0 stays visible at its left end."""
    positive = tokens[tokens > 0]
    if positive.size and positive.max() > WIDE_RANGE * positive.min():
        least, most = positive.min(), positive.max()
        if positive.size < tokens.size:
            axis.set_xscale("symlog", linthresh=least, linscale=0.4)
            axis.set_xlim(-0.1 * least, 2 * most)
            decades = range(math.ceil(math.log10(least)), math.ceil(math.log10(2 * most)))
            axis.set_xticks([0.0, *(10.0**decade for decade in decades)])
        else:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(log_locator(least, most))
        axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(EngFormatter())


def scale_values(axes: Axes, which: Literal["x", "y"], low: float, high: float) -> None:
    """A logarithmic axis with plain numbers where values from `low` to `high` span a wide range."""
    if 0 < WIDE_RANGE * low < high:
        axes.set(**{f"{which}scale": "log"})
        axis = axes.xaxis if which == "x" else axes.yaxis
        axis.set_major_locator(log_locator(low, high))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_minor_locator(NullLocator())


def log_locator(least: float, most: float) -> LogLocator:
    """Ticks at powers of 10, and at 2 and 5 times them where there is room."""
    return LogLocator(subs=(1, 2, 5) if most < 1000 * least else (1,))


def shortened(text: str) -> str:
    """The end of a long text."""
    return text if len(text) <= LONGEST_TITLE else f"…{text[1 - LONGEST_TITLE :]}"


def svg(name: str, label: str, size: tuple[float, float], draw: Callable[[Figure], None]) -> str:
    """Draws a figure and returns its `<svg>` element, with ids that no other chart of the page has."""
    with matplotlib.style.context(STYLE | {"svg.hashsalt": name}, after_reset=True):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r'( id="|url\(#|href="#)', rf"\1{name}-", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
