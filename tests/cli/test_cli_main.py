import json
import os
import subprocess
import sys

import pytest

COMMANDS = ("init", "validate", "plan", "build", "search", "run", "resume", "status", "report", "export", "eval", "ls")


def test_help_names_every_command(sparsearch):
    answer = sparsearch("--help")
    assert answer.code == 0
    for command in COMMANDS:
        assert f" {command} " in answer.out
        assert sparsearch(command, "--help").code == 0


def test_no_arguments_show_the_help(sparsearch):
    answer = sparsearch()
    assert answer.code == 2
    assert "search" in answer.out + answer.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serch"], "No such command 'serch'"),
        (["search"], "Missing argument 'JOB'"),
        (["ls", "models"], "'models' is not one of"),
        (["search", "job.yaml", "--fast"], "No such option: --fast"),
        (["export", "run"], "Missing option '--out'"),
    ],
)
def test_bad_usage_is_told_with_2(sparsearch, arguments, message):
    answer = sparsearch(*arguments)
    assert answer.code == 2
    assert message in answer.err


def test_an_unexpected_error_asks_for_a_report_with_1(sparsearch, monkeypatch, job_file):
    def broken(self):
        raise KeyError("nobody thought of this")

    monkeypatch.setattr("sparsearch.job.job.Job.plan", broken)
    answer = sparsearch("plan", job_file)
    assert answer.code == 1
    assert "Traceback" in answer.err
    assert answer.err.splitlines()[-1].startswith("internal error: KeyError: 'nobody thought of this'; please report")


def test_ctrl_c_before_a_run_has_begun_is_130(sparsearch, monkeypatch, job_file):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("sparsearch.job.job.Job.plan", interrupted)
    answer = sparsearch("plan", job_file)
    assert (answer.code, answer.err) == (130, "stopped: interrupted; run the same command again to go on\n")


def test_the_module_and_the_script_are_the_same_command(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sparsearch", "ls", "spaces", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert [row["name"] for row in json.loads(done.stdout)] == ["nm", "unstructured"]


def test_a_reader_that_closes_the_pipe_is_no_error(tmp_path):
    code = "import os, sys; from sparsearch.cli.main import main; sys.argv[1:] = ['ls', 'pruners']; main()"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-u", "-c", code], cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_does_not_import_torch(tmp_path):
    code = "import sys; from sparsearch.cli.main import run; run(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False).returncode == 0
