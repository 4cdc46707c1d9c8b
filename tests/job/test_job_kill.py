"""THE test of the job loop: whatever kills a run, going on ends where a run that was never killed ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import tiny_jobs
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from sparsearch.cli.main import run as run_command
from sparsearch.errors import ResourceError
from sparsearch.job.folder import RunFolder
from sparsearch.job.journal import Journal
from sparsearch.reference import reference_path

SEARCHER = {"name": "evopress", "generations": 20, "offspring": 10, "survivors": [3, 2, 1], "tokens": [31, 62, 155]}
SPACE = {"levels": [0.25, 0.5, 0.75], "pruner": "sparsegpt"}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
HARNESS = Path(__file__).with_name("kill_harness.py")
JOBS = ("reference", "drawn", "files", "stopped")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four folders with the same job, each with its own runs; 28 sites, to have a build worth killing."""
    folder = tmp_path_factory.mktemp("kill")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128,
    )  # fmt: skip
    LlamaForCausalLM(config).half().save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(reference_path()).save_pretrained(folder / "model")
    data = {"files": [str(tiny_jobs.write_words(folder / "text.txt"))]}
    for name in JOBS:
        (folder / name).mkdir()
        tiny_jobs.write_job(folder / name, folder / "model", data=data, space=SPACE, searcher=SEARCHER)
    return folder


@pytest.fixture(scope="module")
def harness(folder):
    """What `kill_harness.py` says after it has killed the jobs `drawn` and `files`."""
    jobs = [str(folder / name / "job.yaml") for name in ("reference", "drawn", "files")]
    command = [sys.executable, str(HARNESS), *jobs]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def results(folder, name):
    """What a job's end has to look like, bit for bit."""
    run = folder / name / "runs" / "job"
    files = {path.name: path.read_bytes() for path in run.glob("profiles/*.json")}
    supernet = (folder / name).glob("runs/supernets/*/**/*")
    shards = {path.name: path.read_bytes() for path in supernet if path.suffix in (".safetensors", ".json")}
    with Journal.read(run / "journal.sqlite") as journal:
        rows, comparison = list(journal.rows()), journal.fact("comparison")
    for row in comparison["rows"]:  # what it cost depends on what there was to reuse
        del row["seconds"], row["forward_tokens"]
    return {"profiles": files, "supernet": shards, "rows": rows, "comparison": comparison}


def assert_ends_alike(folder, name):
    reference, found = results(folder, "reference"), results(folder, name)
    assert set(found["profiles"]) == {"best.json", "uniform.json"}
    for part in reference:
        assert found[part] == reference[part], f"{part} of {name} differ"


def computed(folder, name):
    """How often each evaluation was computed, over all attempts: (panel, allocation, sequence) to count."""
    lines = (folder / name / "computed.log").read_text().splitlines()
    return Counter(
        (panel, tuple(levels), sequence)
        for panel, levels, sequences in map(json.loads, lines)
        for sequence in sequences
    )


def test_30_kills_at_moments_drawn_over_the_whole_life(folder, harness):
    assert harness["drawn"]["codes"] == [0, 0], (folder / "drawn" / "attempts.log").read_text()
    killed = [entry for entry in harness["drawn"]["killed"] if entry["code"] == -signal.SIGKILL]
    assert len(killed) == 30, harness["drawn"]["killed"]
    assert_ends_alike(folder, "drawn")


def test_the_kills_hit_every_stage(harness):
    states = [entry["after"] for entry in harness["drawn"]["killed"]]
    whole = states[-1]
    # The build is a small part of a life that measures every allocator.
    assert len({state["shards"] for state in states if 0 < state["shards"] < whole["shards"]}) >= 2
    assert len({state["rows"] for state in states if 0 < state["rows"] < whole["rows"]}) >= 6
    assert {state["profiles"] for state in states} == {0, 1, 2}


def test_no_evaluation_is_paid_twice(folder, harness):
    once, killed = computed(folder, "reference"), computed(folder, "drawn")
    assert set(once.values()) == {1}
    assert killed.keys() == once.keys()
    # A kill may take the one evaluation with it that was just computed and not in the journal yet.
    lost = {(panel, levels) for (panel, levels, _), count in killed.items() if count > 1}
    assert len(lost) <= 3
    for name in ("reference", "drawn"):
        sequences = Counter(
            (row.panel, row.objective, row.allocation, sequence)
            for row in results(folder, name)["rows"]
            for sequence in row.sequences
        )
        assert set(sequences.values()) == {1}


def test_kills_around_each_of_the_first_files(folder, harness):
    assert harness["files"]["codes"] == [0, 0], (folder / "files" / "attempts.log").read_text()
    assert {entry["code"] for entry in harness["files"]["killed"]} == {-signal.SIGKILL}
    assert_ends_alike(folder, "files")


class Command:
    """`sparsearch search` in a process of its own."""

    def __init__(self, folder, *options):
        command = [sys.executable, "-m", "sparsearch", "search", str(folder / "stopped" / "job.yaml"), *options]
        self.run = RunFolder(folder / "stopped" / "runs" / "job")
        self.process = subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_for(self, shards=0, more_rows=0):
        wanted = self.rows() + more_rows
        while self.process.poll() is None:
            if len(list(self.run.path.glob("../supernets/*/sites/*.json"))) >= shards and self.rows() >= wanted:
                return
            time.sleep(0.001)
        pytest.fail(f"ended too early: {self.process.communicate()}")

    def rows(self):
        try:
            with Journal.read(self.run.journal) as journal:
                return sum(total.evaluations for total in journal.totals().values())
        except ResourceError:  # not made yet, or just being made
            return 0

    def end(self, number=None):
        """Exit code and what it said on standard error."""
        if number is not None:
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=120)
        return self.process.returncode, errors


def status_of(run, capsys):
    """What `sparsearch status RUN --json` says here, while another process may write there."""
    assert run_command(["status", str(run.path), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_real_processes_killed_stopped_and_out_of_time(folder, harness, capsys):
    command = Command(folder)
    command.wait_for(shards=3)
    assert command.end(signal.SIGKILL)[0] == -signal.SIGKILL
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        command = Command(folder)
        command.wait_for(shards=28, more_rows=40)
        status = status_of(command.run, capsys)
        assert (status["running"], status["stage"]) == (True, "search")
        found, errors = command.end(number)
        assert found == code, errors
        assert f"stopped: stopped by {number.name}; everything up to here is saved" in errors.splitlines()[-1]
        assert not status_of(command.run, capsys)["running"]
    command = Command(folder)
    command.wait_for(more_rows=10)
    assert command.end(signal.SIGKILL)[0] == -signal.SIGKILL
    code, errors = Command(folder, "-o", "run.time_limit=0.001").end()
    assert code == 75, errors
    assert "stopped: stopped at the time limit of 0.001 s; " in errors.splitlines()[-1]
    code, errors = Command(folder).end()
    assert code == 0, errors
    assert_ends_alike(folder, "stopped")
