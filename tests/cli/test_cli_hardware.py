"""Latency budgets on the command line."""

import json

import pytest
import tiny_jobs
from measured import table_for

from sparsearch.hardware.table import write_table
from sparsearch.model.load import load_model


@pytest.fixture
def job(tmp_path, tiny_llama_folder):
    """A job of 0.85 times the dense latency, beside the file that says what this machine takes."""
    write_table(tmp_path / "cpu.json", table_for(load_model(str(tiny_llama_folder))))
    return tiny_jobs.write_job(tmp_path, tiny_llama_folder, budget={"latency": "0.85x", "hardware": "cpu.json"})


def elsewhere(path):
    content = json.loads(path.read_text())
    content["fingerprint"]["processor"] = "Abacus"
    path.write_text(json.dumps(content))


def test_plan_shows_milliseconds_and_where_they_come_from(job, sparsearch):
    answer = sparsearch("plan", job)
    assert answer.code == 0 and "warning" not in answer.out
    assert "latency: 0.01" in answer.out and " ms reachable" in answer.out
    assert f"hardware  {job.parent / 'cpu.json'}: latency of decoding one token, threads: 1, predicted" in answer.out
    plan = json.loads(sparsearch("plan", job, "--json", "--strict").out)
    assert plan["budget"] == {"latency": "0.85x"} and plan["hardware"].startswith(str(job.parent / "cpu.json"))


@pytest.mark.parametrize("command", ["plan", "build", "search", "run"])
def test_another_machine_is_refused_with_strict(job, sparsearch, command):
    elsewhere(job.parent / "cpu.json")
    answer = sparsearch(command, job, "--strict")
    assert answer.code == 2 and "measured on another machine: processor is 'Abacus' there" in answer.err
    assert not (job.parent / "runs").exists()


def test_another_machine_is_warned_about_in_the_plan(job, sparsearch):
    elsewhere(job.parent / "cpu.json")
    answer = sparsearch("plan", job)
    assert answer.code == 0 and "warning   budget.hardware: " in answer.out


@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        ("budget={latency: 2ms}", 2, "run sparsearch measure --out FILE and add hardware: FILE"),
        ("budget.latency=1us", 4, "0.001ms cannot be met; reachable with these levels: 0."),
        ("budget.tokens=3", 2, "budget.tokens: 3 were not measured"),
        ("budget.hardware=gone.json", 2, "gone.json is no file; give one that sparsearch measure --out FILE wrote"),
    ],
)
def test_bad_budgets_end_before_any_work(job, sparsearch, override, code, message):
    answer = sparsearch("plan", job, "-o", override)
    assert answer.code == code and message in answer.err


def test_a_run_reports_milliseconds(job, sparsearch):
    answer = sparsearch("search", job, "--quiet", "-o", "searcher={name: nsga2, resources: [latency], generations: 2, "
                        "population: 6, sequences: 4, finals: 4}")  # fmt: skip
    assert answer.code == 0, answer.err
    run = job.parent / "runs" / "job"
    page = (run / "report.html").read_text()
    assert "<td>latency</td>" in page and " ms</td>" in page
    front = json.loads((run / "profiles" / "pareto_0.json").read_text())
    assert front["figures"]["front"]["resources"] == ["latency"]
    assert (run / "hardware.json").read_bytes() == (job.parent / "cpu.json").read_bytes()


def test_a_run_of_a_latency_budget_is_exported_for_the_kernels_that_it_counted(job, sparsearch, tmp_path):
    assert sparsearch("search", job, "--quiet").code == 0
    run, out = job.parent / "runs" / "job", tmp_path / "out"
    elsewhere(job.parent / "cpu.json")
    options = ("--layout", "runtime", "--no-verify")
    answer = sparsearch("export", run, "--out", out, *options)
    assert answer.code == 0, answer.err
    assert f"fastest for 1 token at once by {run / 'hardware.json'}: " in answer.out and "warning" not in answer.out
    named = ("--hardware", job.parent / "cpu.json")
    answer = sparsearch("export", run, "--out", tmp_path / "strict", *options, *named, "--strict")
    assert answer.code == 2 and "measured on another machine" in answer.err and not (tmp_path / "strict").exists()
    found = json.loads(sparsearch("export", run, "--out", tmp_path / "other", *options, *named, "--json").out)
    assert "Abacus" in found["warnings"][0] and found["packing"].startswith("fastest for 1 token")
    answer = sparsearch("export", run, "--out", tmp_path / "recipe", "--recipe", "evopress", *named)
    assert answer.code == 2 and "--hardware and --strict: allowed only with --layout runtime" in answer.err
