"""The command line, called in this process."""

from dataclasses import dataclass

import pytest
import tiny_jobs
import torch
from transformers.utils.logging import disable_progress_bar

from sparsearch.cli.main import run


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Jobs of these tests are so small that a second thread only costs, on a busy machine tenfold."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def sparsearch(capsys):
    """`sparsearch(argument, ...)`: the command's answer."""
    disable_progress_bar()  # as `run` does, if transformers is not imported yet

    def call(*arguments):
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Answer(code, *capsys.readouterr())

    return call


@pytest.fixture
def finished(tmp_path, tiny_llama_folder):
    """The run folder of a finished job, whose file is `job.yaml` two folders up."""
    return tiny_jobs.finished_run(tiny_llama_folder, tmp_path / "finished")


@pytest.fixture
def job_file(tmp_path, tiny_llama_folder):
    """A job that was not started."""
    folder = tmp_path / "new"
    folder.mkdir()
    return tiny_jobs.write_job(folder, tiny_llama_folder)
