import json

import numpy as np
import pytest

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.job.folder import RunFolder
from sparsearch.job.journal import Journal
from sparsearch.job.lock import RunLock
from sparsearch.job.status import read_status
from sparsearch.model.site import Site
from sparsearch.space import Allocation, Profile, level_grid, linear_space

PROGRESS = {"stage": "search", "done": 10, "total": 40, "text": "fine", "left": 60.0, "updated": 1020.0}


@pytest.fixture
def run_dir(tmp_path):
    with Journal.create_or_open(RunFolder(tmp_path).journal) as journal:
        journal.set_fact("progress", PROGRESS)
        journal.append("search", "kl", Allocation((1,)), [0, 1], np.ones(2), 16.0, 0.1)
        journal.append("heldout", "kl", Allocation((1,)), [0], np.ones(1), 8.0, 0.1)
    return tmp_path


def test_a_job_that_does_not_run(run_dir):
    status = read_status(run_dir)
    assert (status.stage, status.done, status.total, status.text) == ("search", 10, 40, "fine")
    assert (status.evaluations, status.forward_tokens) == (2, 24.0)
    assert not status.running
    assert status.eta is None
    assert status.updated == 1020.0
    assert status.best is None
    assert json.loads(json.dumps(status.to_dict()))["stage"] == "search"


def test_a_running_job_has_an_eta_and_is_read_while_it_writes(run_dir):
    with RunLock(run_dir), Journal.create_or_open(RunFolder(run_dir).journal) as journal:
        assert read_status(run_dir).running
        assert read_status(run_dir).eta == 60.0
        journal.set_fact("progress", PROGRESS | {"left": None})
        assert read_status(run_dir).eta is None


def test_the_figures_of_the_profile(run_dir):
    space = linear_space([Site("a", "a", "a", 0, (4, 4))], level_grid([0.5]), itemsize=2)
    Profile.of(space, Allocation((1,)), figures={"kl": 0.5}).save(RunFolder(run_dir).best)
    assert read_status(run_dir).best == {"kl": 0.5}


def test_a_job_before_its_first_stage(tmp_path):
    Journal.create_or_open(RunFolder(tmp_path).journal).close()
    status = read_status(tmp_path)
    assert (status.stage, status.evaluations, status.updated) == ("new", 0, None)


def test_folders_without_a_run_are_told(tmp_path):
    with pytest.raises(ConfigError, match=r"absent does not exist"):
        read_status(tmp_path / "absent")
    with pytest.raises(ResourceError, match=r"journal\.sqlite does not exist; give the folder of a run"):
        read_status(tmp_path)
    assert list(tmp_path.iterdir()) == []
