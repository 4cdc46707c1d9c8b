"""What a job found, for people: comparison table, charts and one self-contained HTML page."""

from sparsearch.report.data import ComparisonRow, Difference, Objective, ReportData
from sparsearch.report.html import render
from sparsearch.report.table import comparison_cells, comparison_table, comparison_text
from sparsearch.report.text import format_interval, headline

__all__ = [
    "ComparisonRow",
    "Difference",
    "Objective",
    "ReportData",
    "comparison_cells",
    "comparison_table",
    "comparison_text",
    "format_interval",
    "headline",
    "render",
]
