"""The charts: well-formed, deterministic SVG whatever the shape of the data."""

import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest

from sparsearch.evaluation.intervals import Interval
from sparsearch.report import ComparisonRow, Objective
from sparsearch.report.plots import allocation_svg, comparison_svg, curve_svg

KL = Objective("KL", "nats/token")
HEAD = {"name": "lm_head", "kind": "lm_head", "block": 80, "shape": [64, 32], "level": "0.3", "sparsity": 0.3}


def parsed(svg):
    """The root element, ids checked for uniqueness and references for their targets."""
    root = ElementTree.fromstring(svg)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg)) <= set(ids)
    return root


@pytest.mark.parametrize("blocks", [1, 12, 80])
def test_allocation_draws_any_depth(profile_of, blocks):
    svg = allocation_svg(profile_of(blocks, 1.0), profile_of(blocks, 0.0))
    assert "7 kinds of sites" in parsed(svg).get("aria-label")


def test_allocation_draws_kinds_that_occur_once_and_experts(profile_of):
    kinds = {f"mlp.experts.{number}.up_proj": (32, 16) for number in range(4)} | {"self_attn.q_proj": (16, 16)}
    best, uniform = (profile_of(80, spread, kinds, [HEAD]) for spread in (1.0, 0.0))
    assert "3 kinds of sites" in parsed(allocation_svg(best, uniform)).get("aria-label")


def test_allocation_without_uniform_starts_at_the_overall_sparsity(profile_of):
    parsed(allocation_svg(profile_of(3, 1.0), None))


def test_hostile_names_are_drawn_as_text(profile_of):
    kinds = {"$\\frac{": (8, 8), "<script>": (8, 8)}
    svg = allocation_svg(profile_of(2, 1.0, kinds), profile_of(2, 0.0, kinds))
    parsed(svg)
    assert "<script>" not in svg


@pytest.mark.parametrize("tokens", [[5e4], [0, 1e4, 4e9], [1e4, 2e4], [2e4, 2e5, 3e6]])
def test_curve_draws_any_range(tokens):
    curve = [(t, Interval(0.3 / (i + 1), 0.2 / (i + 1), 0.4 / (i + 1))) for i, t in enumerate(tokens)]
    parsed(curve_svg(curve, {f"line {i}": 0.1 * i for i in range(8)}, KL, "search panel"))


def test_comparison_leaves_out_what_no_axis_holds():
    rows = [
        ComparisonRow("dense", Interval(0, 0, 0), None, 0.0, 0, 0),
        ComparisonRow("random", Interval(4000, 3000, 9000), None, 0.6, 0, 0),
        ComparisonRow("broken", Interval(float("inf"), 1, float("inf")), None, 0.6, 0, 0),
        ComparisonRow("searched", Interval(15, 14, 16), None, 0.6, 0, 0),
    ]
    assert "of 2 models" in parsed(comparison_svg(rows, KL, "searched")).get("aria-label")


def test_the_reader_s_matplotlib_settings_are_neither_used_nor_changed(report):
    plain = curve_svg(report().curve, {}, KL, "search panel")
    with matplotlib.rc_context({"lines.linewidth": 9, "svg.fonttype": "none"}):
        assert curve_svg(report().curve, {}, KL, "search panel") == plain
        assert matplotlib.rcParams["lines.linewidth"] == 9


def test_ink_follows_the_page(report):
    svg = curve_svg(report().curve, {}, KL, "search panel")
    assert "currentColor" in svg
    assert "#000000" not in svg
