"""A synthetic report of realistic shape: 12 blocks of 7 kinds at 60 %, four rows, a search curve."""

from collections.abc import Callable

import numpy as np
import pytest

from sparsearch.evaluation.intervals import Interval
from sparsearch.report import ComparisonRow, Difference, Objective, ReportData
from sparsearch.space import Profile

KINDS = {
    "self_attn.q_proj": (128, 128), "self_attn.k_proj": (64, 128), "self_attn.v_proj": (64, 128),
    "self_attn.o_proj": (128, 128), "mlp.gate_proj": (352, 128), "mlp.up_proj": (352, 128),
    "mlp.down_proj": (128, 352),
}  # fmt: skip


def synthetic_profile(blocks: int, spread: float, kinds=KINDS, extra=()) -> Profile:
    rng = np.random.default_rng(0)
    sites = []
    for block in range(blocks):
        for number, (kind, shape) in enumerate(kinds.items()):
            depth = (block / max(1, blocks - 1) - 0.5) * 0.5 + 0.06 * (number - 3) + rng.normal(0, 0.05)
            level = float(np.clip(round((0.6 + spread * depth) * 20) / 20, 0, 0.95))
            sites.append(
                {"name": f"model.layers.{block}.{kind}", "kind": kind, "block": block, "shape": list(shape),
                 "level": f"{level:g}" if level else "dense", "sparsity": level}
            )  # fmt: skip
    sites.extend(extra)
    resources = {"bytes": {"dense": 4.9e6, "profile": 2.4e6}, "params": {"dense": 2.5e6, "profile": 1.2e6}}
    return Profile(tuple(sites), {"sparsity": "0.6"}, resources)


def synthetic_report(blocks: int = 12, points: int = 25, **changes) -> ReportData:
    tokens = np.geomspace(2e4, 3.4e6, points)
    values = 0.149 + 0.151 * np.exp(-np.linspace(0, 5, points))
    curve = tuple(
        (float(t), Interval(float(v), float(v) - 0.012, float(v) + 0.013)) for t, v in zip(tokens, values, strict=True)
    )
    rows = (
        ComparisonRow("dense", Interval(0, 0, 0), Interval(18.71, 17.92, 19.55), 0.0, 0.0, 0),
        ComparisonRow("uniform", Interval(0.3004, 0.2871, 0.3142), Interval(25.27, 24.01, 26.60), 0.6, 0.0, 0),
        ComparisonRow("erk", Interval(0.2711, 0.2588, 0.2840), Interval(24.48, 23.22, 25.81), 0.6001, 0.01, 0),
        ComparisonRow("searched", Interval(0.1492, 0.1411, 0.1580), Interval(21.72, 20.71, 22.79), 0.6, 183.2, 3.4e6),
    )
    fields = {
        "title": "reference, 60 % unstructured, evopress",
        "objective": Objective("KL", "nats/token"),
        "rows": rows,
        "differences": (
            Difference("searched", "uniform", Interval(-0.1512, -0.1603, -0.1427)),
            Difference("searched", "erk", Interval(-0.1219, -0.1301, -0.1142)),
            Difference("erk", "uniform", Interval(-0.0293, -0.0361, -0.0231)),
        ),
        "profiles": {"uniform": synthetic_profile(blocks, 0.0), "best": synthetic_profile(blocks, 1.0)},
        "curve": curve, "curve_references": {"uniform": 0.3004, "erk": 0.2711},
        "config_yaml": "model: {name: reference}\nspace: unstructured\nbudget: {sparsity: 0.6}\n"
                       "searcher: {name: evopress, generations: 100}\nseed: 0\n",
        "provenance": {"model": "reference", "searcher": "evopress", "seed": "0", "sparsearch": "0.1.0"},
        "notes": ("The held-out panel has 64 sequences of 256 tokens.",),
    }  # fmt: skip
    return ReportData(**(fields | changes))


@pytest.fixture
def report() -> Callable[..., ReportData]:
    return synthetic_report


@pytest.fixture
def profile_of() -> Callable[..., Profile]:
    return synthetic_profile
