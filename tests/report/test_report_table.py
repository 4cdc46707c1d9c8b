"""Figures and tables as text."""

import io
import math

import pytest
from rich.console import Console

from sparsearch.evaluation.intervals import Interval
from sparsearch.report import ComparisonRow, Objective, comparison_table, comparison_text, format_interval
from sparsearch.report.text import format_seconds, format_tokens

KL = Objective("KL", "nats/token")


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.14921, 0.14108, 0.15803), "0.149 [0.141, 0.158]"),
        (Interval(21.72, 20.71, 22.79), "21.7 [20.7, 22.8]"),
        (Interval(0.0001234, 0.0001201, 0.0001267), "0.0001234 [0.0001201, 0.0001267]"),
        (Interval(4123.4, 3000.1, 9000.9), "4123 [3000, 9001]"),
        (Interval(-0.0001, -0.02, 0.012), "0.000 [-0.020, 0.012]"),
        (Interval(0, 0, 0), "0"),
        (Interval(18.71234, 18.71234, 18.71234), "18.71"),
        (Interval(math.inf, 100, math.inf), "inf [100.00, inf]"),
    ],
)
def test_intervals_show_two_digits_of_their_width(interval, text):
    assert format_interval(interval) == text


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (0, "–"),
        (920, "920"),
        (12_300, "12.3 k"),
        (999_700, "1.00 M"),
        (3_400_000, "3.40 M"),
        (1.8e8, "180 M"),
    ],
)
def test_tokens(tokens, text):
    assert format_tokens(tokens) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "–"), (0.417, "0.417 s"), (12.34, "12.3 s"), (59.97, "1 min 00 s"), (12_000, "3 h 20 min")],
)
def test_seconds(seconds, text):
    assert format_seconds(seconds) == text


def printed(rows, objective=KL, width=120):
    stream = io.StringIO()
    Console(file=stream, width=width).print(comparison_table(rows, objective))
    return stream.getvalue()


def test_both_tables_hold_the_same_cells(report):
    rich_text, plain = printed(report().rows), comparison_text(report().rows, KL)
    for cell in (
        "held-out KL (nats/token)",
        "0.149 [0.141, 0.158]",
        "21.7 [20.7, 22.8]",
        "60.00%",
        "3 min 03 s",
    ):
        assert cell in rich_text
        assert cell in plain


def test_plain_lines_align_and_have_no_codes(report):
    lines = comparison_text(report().rows, KL).splitlines()
    assert len(lines) == 5
    assert len({len(line) for line in lines}) == 1
    assert "\x1b" not in "".join(lines)


def test_the_heading_is_the_objective_s(report):
    assert "held-out hidden error" in comparison_text(report().rows, Objective("hidden error"))


def test_the_perplexity_column_is_left_out_where_there_is_none():
    rows = [ComparisonRow("uniform", Interval(0.3, 0.2, 0.4), None, 0.6, 0, 0)]
    assert "perplexity" not in comparison_text(rows, KL)
    assert "perplexity" not in printed(rows)


def test_square_brackets_in_names_are_no_markup():
    rows = [ComparisonRow("[bold]mine[/bold]", Interval(0.3, 0.2, 0.4), None, 0.6, 0, 0)]
    assert "[bold]mine[/bold]" in printed(rows)


def test_a_narrow_terminal_loses_no_figure(report):
    text = printed(report().rows, width=80)
    assert "…" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
