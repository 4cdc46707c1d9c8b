import json
import re
import subprocess
import sys

import pytest
import tiny_jobs
import yaml

from sparsearch.job.config import load_config
from sparsearch.space import Profile


def run_of(job_file):
    return job_file.parent / "runs" / "job"


def files_of(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_init_writes_a_job_that_validates(tmp_path, sparsearch):
    path = tmp_path / "first.yaml"
    answer = sparsearch("init", path)
    assert answer.code == 0
    assert answer.out == f"wrote {path}; next: sparsearch plan {path}\n"
    assert load_config(path).budget == {"sparsity": 0.6}
    valid = sparsearch("validate", path)
    assert (valid.code, valid.out) == (0, f"{path}: valid; run folder {tmp_path / 'runs' / 'first'}\n")
    assert files_of(tmp_path) == {"first.yaml"}


def test_init_replaces_nothing_unless_forced(tmp_path, sparsearch):
    path = tmp_path / "job.yaml"
    path.write_text("mine: true\n")
    answer = sparsearch("init", path)
    assert answer.code == 2
    assert answer.err == f"error: {path} exists; choose another name or give --force\n"
    assert path.read_text() == "mine: true\n"
    assert sparsearch("init", path, "--force", "--model", 'a "quoted" \\ name').code == 0
    assert load_config(path).model.name == 'a "quoted" \\ name'
    assert path.read_text().count("#") > 10


def test_plan_shows_and_writes_nothing(job_file, sparsearch):
    before = tiny_jobs.listing(job_file.parent)
    answer = sparsearch("plan", job_file)
    assert answer.code == 0
    for wanted in (
        "14 sites of 15,360 weights, 4 levels",
        "sparsity 0.5",
        "params: 135,072 to 146,592 reachable",
        "evopress by kl: ",
        "to build",
    ):
        assert wanted in answer.out
    plan = json.loads(sparsearch("plan", job_file, "--json").out)
    assert (plan["sites"], plan["searcher"], plan["objective"], plan["supernet_ready"]) == (14, "evopress", "kl", False)
    assert tiny_jobs.listing(job_file.parent) == before


def test_build_then_search_then_the_same_again(job_file, sparsearch):
    built = sparsearch("build", job_file)
    assert built.code == 0
    assert re.match(r"supernet of 14 sites, \d\.\d MiB: .*/runs/supernets/[0-9a-f]{32}\n$", built.out)
    assert sparsearch("plan", job_file, "--json").out.count('"supernet_ready": true') == 1
    found = sparsearch("search", job_file)
    assert found.code == 0
    assert found.out.splitlines()[-2:] == [
        f"profile: {run_of(job_file)}/profiles/best.json",
        f"report:  {run_of(job_file)}/report.html",
    ]
    assert {
        "config.yaml",
        "journal.sqlite",
        "profiles/best.json",
        "profiles/uniform.json",
        "report.html",
        "run.log",
    } <= (files_of(run_of(job_file)))
    again = sparsearch("resume", job_file)
    assert (again.code, again.out) == (0, found.out)


def test_the_result_is_a_table_and_a_verdict(job_file, sparsearch):
    lines = sparsearch("search", job_file, "--quiet").out.splitlines()
    assert re.search(r"^allocation +held-out KL .* perplexity +sparsity +time +forward tokens$", lines[0])
    # Verdicts, one a reference that counts, stand below the table.
    names = [re.split(r"  +", line)[0] for line in lines[1:]]
    names = names[: names.index("searched: evopress") + 1]
    assert names[:2] == ["dense", "uniform"]
    assert {"erk", "lamp", "owl", "block_influence"} <= set(names[2:-2])
    assert names[-2].startswith("best allocator: ")
    assert names[-2].removeprefix("best allocator: ") in names[1:-2]
    assert names[-1] == "searched: evopress"
    assert any(re.match(r"searched: evopress .*uniform", line) for line in lines[len(names) + 1 :])


def test_progress_is_plain_lines_off_a_terminal_and_none_when_quiet(job_file, sparsearch):
    told = sparsearch("search", job_file).err.splitlines()
    assert all(re.match(r"(build|search|compare): ", line) for line in told)
    assert [line for line in told if re.match(r"\w+: (\d+) of \1$", line.split(",")[0])] != []
    assert "\x1b" not in "".join(told)
    assert sparsearch("search", job_file, "--quiet").err == ""


def test_search_prints_the_profile_as_json(job_file, sparsearch):
    answer = sparsearch("search", job_file, "--json")
    assert answer.code == 0
    assert json.loads(answer.out) == json.loads((run_of(job_file) / "profiles" / "best.json").read_text())


def test_overrides_and_the_run_folder_from_the_command_line(job_file, tmp_path, sparsearch):
    run = tmp_path / "elsewhere" / "run"
    answer = sparsearch("search", job_file, "-o", "searcher.generations=1", "-o", "seed=7", "--run", run, "--quiet")
    assert answer.code == 0
    config = load_config(run / "config.yaml")
    assert (config.searcher.options["generations"], config.seed) == (1, 7)
    assert Profile.load(run / "profiles" / "best.json").provenance["seed"] == 7
    assert (tmp_path / "elsewhere" / "supernets").is_dir()
    assert not (job_file.parent / "runs").exists()


def test_run_does_everything_and_the_same_command_verifies_again(job_file, sparsearch):
    answer = sparsearch("run", job_file)
    assert answer.code == 0, answer.err
    export = run_of(job_file) / "export"
    assert re.search(rf"^export:  {export} \(reloaded: logits equal, 50\.\d\d% zeros\)$", answer.out, re.MULTILINE)
    assert "plan: " in answer.err
    assert "14 sites" in answer.err
    assert {"config.json", "model.safetensors", "README.md", "sparsearch/profile.json", "tokenizer.json"} <= (
        files_of(export)
    )
    weights = export / "model.safetensors"
    written = weights.stat().st_mtime_ns
    again = sparsearch("run", job_file, "--quiet")
    assert (again.code, again.out, again.err) == (0, answer.out, "")
    assert weights.stat().st_mtime_ns == written


def test_run_refuses_a_folder_of_something_else_before_any_work(job_file, sparsearch):
    taken = job_file.parent / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    before = tiny_jobs.listing(job_file.parent)
    answer = sparsearch("run", job_file, "--out", taken)
    assert answer.code == 2
    assert answer.err == (
        f"error: out: {taken} exists and is no export of this job; choose another folder or delete this one\n"
    )
    assert tiny_jobs.listing(job_file.parent) == before


def test_run_refuses_an_export_of_another_job(finished, tmp_path, sparsearch):
    out = tmp_path / "out"
    assert sparsearch("export", finished, "--out", out, "--no-verify").code == 0
    job_file = finished.parent.parent / "job.yaml"
    other = sparsearch("run", job_file, "-o", "seed=1", "--run", tmp_path / "other", "--out", out)
    assert other.code == 2
    assert "is no export of this job" in other.err
    assert not (tmp_path / "other").exists()
    # The uniform profile of this very job is not what `run` would write there.
    assert (
        sparsearch("export", finished, "--out", tmp_path / "uniform", "--profile", "uniform", "--no-verify").code == 0
    )
    uniform = sparsearch("run", job_file, "--out", tmp_path / "uniform")
    assert uniform.code == 2
    assert "holds another profile of this job" in uniform.err


def test_the_reference_job_runs_where_the_user_is(tmp_path, monkeypatch, sparsearch):
    monkeypatch.chdir(tmp_path)
    plan = json.loads(sparsearch("plan", "reference", "--json").out)
    assert plan["run_dir"] == str(tmp_path / "runs" / "reference")
    assert plan["blocks"] == 12
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_gets_bars_with_an_eta(job_file):
    """Through `script`-like pseudo-terminals: rich asks the file itself."""
    pty = pytest.importorskip("pty")
    import os

    code = (
        "import sys, torch; torch.set_num_threads(1); from sparsearch.cli.main import run; "
        f"sys.exit(run(['search', {str(job_file)!r}]))"
    )
    controller, terminal = pty.openpty()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=job_file.parent, env=environment, stdout=subprocess.DEVNULL, stderr=terminal
    )
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(controller, 65536):
            shown += chunk
    except OSError:  # Linux says so when the other end is closed
        pass
    os.close(controller)
    assert process.wait() == 0
    assert b"\x1b[" in shown
    for wanted in (b"build", b"search", b"compare", b"ETA", b"14/14"):
        assert wanted in shown


def test_the_written_config_is_the_whole_job(finished):
    written = yaml.safe_load((finished / "config.yaml").read_text())
    assert written["objective"]["panel"]["heldout"] == 8
    assert written["searcher"]["generations"] == 3
    assert written["space"]["levels"] == [0.25, 0.5, 0.75]
