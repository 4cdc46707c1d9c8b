"""The comparison of searchers: its arithmetic, and that its short form runs on language models and encoders."""

import json
import os
import subprocess
import sys
from math import log
from pathlib import Path

import pytest
import transformers

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

from common import table  # noqa: E402
from efficiency import NEVER, Result, duels, summary  # noqa: E402

from sparsearch.reference import reference_path  # noqa: E402


def result(searcher, seed, curve, tokens):
    final = curve[-1][1]
    seconds = {"total": 10.0, "forward": 8.0, "switch": 0.5, "searcher": 1.0}
    return Result("m", 0.6, searcher, seed, curve, final, final - 0.01, final + 0.01, tokens, seconds)


OURS = [result("ours", seed, [(10.0, 1.0), (20.0, 0.5 - 0.1 * seed)], 40.0) for seed in range(3)]
RIVAL = [result("rival", seed, [(5.0, 2.0), (30.0, 0.8), (200.0, 0.45)], 400.0) for seed in range(3)]


def test_a_value_counts_as_reached_at_the_first_point_that_is_no_higher():
    assert OURS[0].reaches(0.5) == 20 and OURS[0].reaches(1.0) == 10 and OURS[0].reaches(0.49) == NEVER


def test_between_two_points_a_line_over_the_logarithm_of_tokens_stands():
    assert RIVAL[0].at(30.0) == pytest.approx(0.8) and RIVAL[0].at((30.0 * 200.0) ** 0.5) == pytest.approx(0.625)
    assert RIVAL[0].at(1.0) == 2.0 and RIVAL[0].at(1e6) == 0.45


def test_duels_compare_seed_by_seed():
    row = next(row for row in duels([*OURS, *RIVAL]) if row["searcher"] == "ours")
    assert row["rival"] == "rival" and row["seeds"] == 3
    assert row["never reached"] == 1  # seed 0 ends at 0.5 > 0.45
    assert row["share"] == 20 / 400 and row["Mtokens to reach"] == 20 / 1e6
    assert row["lower at equal tokens"] == pytest.approx(1 - 0.4 / (0.8 - 0.35 * log(40 / 30) / log(200 / 30)))
    assert row["lower at 1/20"] == pytest.approx(1 - 0.4 / (2.0 - 1.2 * log(20 / 5) / log(30 / 5)))
    assert row["lower in the end"] == pytest.approx(1 - 0.4 / 0.45)


def test_one_searcher_alone_has_no_duels_and_no_table():
    assert duels(OURS) == [] and table([]) == ""


def test_the_summary_gives_medians_and_ranges():
    row = next(row for row in summary([*OURS, *RIVAL]) if row["searcher"] == "ours")
    assert row["held-out"] == pytest.approx(0.4) and row["seeds' range"] == "0.3000 to 0.5000"
    assert row["time elsewhere"] == "10.0%"


@pytest.fixture
def encoder(tmp_path):
    config = transformers.BertConfig(
        vocab_size=2048, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "encoder")
    transformers.AutoTokenizer.from_pretrained(reference_path()).save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def test_the_short_form_runs_on_a_language_model_and_an_encoder(encoder, tmp_path):
    out = tmp_path / "result.json"
    command = [sys.executable, str(FOLDER / "search_efficiency.py"), "--quick", "--out", str(out)]
    command += ["--model", "reference", "--model", str(encoder), "--work", str(tmp_path / "work")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=500, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert {row["model"] for row in found["rows"]} == {"reference", "encoder"}
    assert {row["searcher"] for row in found["rows"]} >= {"evopress", "evopress-fast", "random", "quadratic"}
    assert found["checks"] and found["duels"] and out.with_suffix(".png").stat().st_size > 10_000
    assert f"written: {out}" in done.stdout
