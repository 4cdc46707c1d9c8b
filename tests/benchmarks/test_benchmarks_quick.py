"""Every benchmark still runs and says what it should; its figures are nobody's business here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparsearch.hardware import native

FOLDER = Path(__file__).parents[2] / "benchmarks"
NAMES = (
    "accumulation",
    "build_cost",
    "correlation_sheet",
    "cost_model",
    "disk_bytes",
    "inner_problem",
    pytest.param("kernels", marks=pytest.mark.skipif(native.unavailable() is not None, reason="no native library")),
    "switch_cost",
    pytest.param("build_memory", marks=pytest.mark.slow),
    pytest.param("end_to_end", marks=pytest.mark.slow),
    pytest.param("latency_aware", marks=pytest.mark.slow),
)


@pytest.mark.parametrize("name", NAMES)
def test_quick_run_prints_a_table_with_verdicts_and_writes_the_same_as_json(name, tmp_path):
    out = tmp_path / "result.json"
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--quick", "--out", str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text(encoding="utf-8"))
    lines = done.stdout.splitlines()
    assert all(column in lines[0] for column in result["rows"][0])
    assert result["machine"]["torch"] and result["arguments"]["quick"] == "True"
    verdicts = lines[1 + len(result["rows"]) : -1]
    assert len(verdicts) == len(result["checks"]) > 0
    for line, check in zip(verdicts, result["checks"], strict=True):
        assert line.startswith("PASS" if check["passed"] else "FAIL") and check["what"] in line
    assert lines[-1] == f"written: {out}"


def test_results_stay_out_of_the_repository():
    ignored = (FOLDER.parent / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "/benchmarks/results/" in ignored
