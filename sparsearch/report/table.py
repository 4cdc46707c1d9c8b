"""The comparison table: as text cells, for a terminal, and for logs."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from sparsearch.report.data import ComparisonRow, Objective
from sparsearch.report.text import format_interval, format_seconds, format_tokens

Cells = tuple[tuple[str, ...], list[tuple[str, ...]]]


def comparison_cells(rows: Sequence[ComparisonRow], objective: Objective) -> Cells:
    """Heading and rows as text. The perplexity column is there only where some row has one."""
    perplexity = any(row.perplexity is not None for row in rows)
    heading: tuple[str, ...] = (
        "allocation",
        f"held-out {objective.heading}",
        "perplexity",
        "sparsity",
        "time",
        "forward tokens",
    )
    cells: list[tuple[str, ...]] = [
        (
            row.name,
            format_interval(row.objective),
            format_interval(row.perplexity) if row.perplexity else "–",
            f"{row.sparsity:.2%}",
            format_seconds(row.seconds),
            format_tokens(row.forward_tokens),
        )
        for row in rows
    ]
    if perplexity:
        return heading, cells
    return _without(heading, 2), [_without(row, 2) for row in cells]


def comparison_table(rows: Sequence[ComparisonRow], objective: Objective) -> Table:
    """The table for a terminal."""
    heading, cells = comparison_cells(rows, objective)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, name in enumerate(heading):
        table.add_column(Text(name), justify="right" if number else "left", overflow="fold")
    for row in cells:
        # Text, not str: a name in square brackets is no markup.
        table.add_row(*map(Text, row))
    return table


def comparison_text(rows: Sequence[ComparisonRow], objective: Objective) -> str:
    """The table as aligned plain text lines, for a log or a pipe."""
    return aligned(*comparison_cells(rows, objective))


def aligned(heading: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table as plain text lines, the first column to the left, the others to the right."""
    lines = [heading, *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
    )


def _without(values: tuple[str, ...], column: int) -> tuple[str, ...]:
    return values[:column] + values[column + 1 :]
