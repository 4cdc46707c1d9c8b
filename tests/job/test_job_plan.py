import json

import pytest
import tiny_jobs

from sparsearch.job.job import Job
from sparsearch.job.journal import Journal
from sparsearch.job.plan import free_bytes, supernet_bytes
from sparsearch.model.site import Site
from sparsearch.search import ALLOCATORS
from sparsearch.space import level_grid, linear_space


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_llama_folder):
    return tiny_jobs.finished_run(tiny_llama_folder, tmp_path_factory.mktemp("plan"))


def plan_of(run, *overrides):
    return Job.load(run.parent.parent / "job.yaml", overrides).plan()


def test_a_plan_says_what_the_job_is(run):
    plan = plan_of(run)
    assert (plan.sites, plan.levels, plan.blocks, plan.searcher) == (14, 4, 2, "evopress")
    assert plan.prunable == 15360
    assert plan.parameters == 15360 + 5 * 32 + 2 * 2048 * 32
    assert (plan.calibration_tokens, plan.heldout_tokens) == (8 * 31, 8 * 31)
    assert plan.budget == {"sparsity": "0.5"}
    assert plan.reachable["params"] == (plan.parameters - 0.75 * plan.prunable, plan.parameters)
    assert plan.run_dir == str(run)
    assert plan.supernet_ready
    assert json.loads(json.dumps(plan.to_dict()))["sites"] == 14


def test_the_searcher_never_evaluates_more_than_planned(run):
    with Journal.read(run / "journal.sqlite") as journal:
        evaluated = sum(len(row.sequences) for row in journal.rows() if row.panel == "search") * 31
    asked = 3 * (5 * 1 + 3 * 3) * 31
    assert plan_of(run).search_tokens == asked
    # The allocators are measured on the whole panel (of 12) behind the search.
    assert evaluated <= asked + len(ALLOCATORS) * 12 * 31


def test_a_plan_writes_nothing(tmp_path, tiny_llama_folder):
    job = tiny_jobs.write_job(tmp_path, tiny_llama_folder)
    before = tiny_jobs.listing(tmp_path)
    assert not Job.load(job).plan().supernet_ready
    assert tiny_jobs.listing(tmp_path) == before


@pytest.mark.parametrize("pruner", ["wanda", "sparsegpt"])
def test_the_estimate_of_the_supernet_is_near_what_it_takes(tmp_path, tiny_llama_folder, pruner):
    space = {"levels": [0.25, 0.5, 0.75], "pruner": pruner}
    job = Job.load(tiny_jobs.write_job(tmp_path, tiny_llama_folder, space=space))
    header = 500 * 14  # safetensors describes its tensors in JSON, which counts for sites this small
    planned = job.plan().supernet_bytes
    assert planned <= job.build().bytes <= 1.1 * planned + header


def test_encodings_decide_the_estimate():
    space = linear_space([Site("s", "s", "s", 0, (64, 64))], level_grid([0.5, 0.75]), itemsize=2)
    assert supernet_bytes(space, updates_weights=False, itemsize=2) == 4096
    assert supernet_bytes(space, updates_weights=True, itemsize=2) == 2 * 512 + 2 * (2048 + 1024)
    patterns = linear_space([Site("s", "s", "s", 0, (64, 64))], level_grid(["2:4"]), itemsize=2)
    assert supernet_bytes(patterns, updates_weights=False, itemsize=2) == 512 + 2 * 2048
    # Dense storage where the mask would only add to it.
    slight = linear_space([Site("s", "s", "s", 0, (64, 64))], level_grid([0.01]), itemsize=2)
    assert supernet_bytes(slight, updates_weights=True, itemsize=2) == 2 * 4096


def test_free_space_of_a_folder_that_is_not_there_yet(tmp_path):
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(free_bytes(tmp_path), rel=0.01)
    assert not (tmp_path / "a").exists()
