"""Figures as text: as many digits as they deserve, the same in tables, charts and model cards."""

from __future__ import annotations

import math

from sparsearch.evaluation.intervals import BETTER, WORSE, Interval
from sparsearch.report.data import Difference, Objective

MAX_DECIMALS = 8


def format_interval(interval: Interval) -> str:
    """`0.149 [0.140, 0.158]`, to two digits of the interval's width; one number where it has no width."""
    if interval.low == interval.high == interval.mean:
        return "0" if interval.mean == 0 else f"{interval.mean:.4g}"
    decimals = _decimals(interval)
    mean, low, high = (_fixed(value, decimals) for value in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"


def format_tokens(tokens: float) -> str:
    """`–` for none, else three digits: `920`, `12.3 k`, `1.15 M`."""
    if tokens <= 0:
        return "–"
    for factor, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        # 999 600 rounds to 1.00 M, not to 1000 k.
        if tokens >= 0.9995 * factor:
            return f"{_three_digits(tokens / factor)}{unit}"
    return f"{tokens:.0f}"


def format_seconds(seconds: float) -> str:
    """`–` for none, else `0.417 s`, `12.3 s`, `4 min 05 s`, `3 h 20 min`."""
    if seconds <= 0:
        return "–"
    if seconds < 59.95:
        return f"{_three_digits(seconds)} s"
    if seconds < 3599.5:
        return f"{round(seconds) // 60} min {round(seconds) % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def headline(difference: Difference | None, objective: Objective) -> str:
    """The outcome in one plain sentence."""
    if difference is None:
        return "Nothing was compared: the report has no paired difference."
    candidate, reference = difference.candidate, difference.reference
    low, high = sorted((abs(difference.interval.low), abs(difference.interval.high)))
    size = format_interval(Interval(abs(difference.interval.mean), low, high))
    unit = f" {objective.unit}" if objective.unit else ""
    if difference.verdict == BETTER:
        return f"{candidate} beats {reference}: held-out {objective.name} lower by {size}{unit}."
    if difference.verdict == WORSE:
        return f"{candidate} is worse than {reference}: held-out {objective.name} higher by {size}{unit}."
    return (
        f"No significant gain of {candidate} over {reference}: held-out {objective.name} differs by "
        f"{format_interval(difference.interval)}{unit}."
    )


def _decimals(interval: Interval) -> int:
    width = interval.high - interval.low
    if not 0 < width < math.inf:
        return 2
    return min(MAX_DECIMALS, max(0, 2 - math.ceil(math.log10(width))))


def _fixed(value: float, decimals: int) -> str:
    if not abs(value) < 1e7:
        return f"{value:.3g}"
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _three_digits(value: float) -> str:
    return f"{value:#.3g}".rstrip(".")
