import json
import re

import numpy as np
import pytest
import tiny_jobs

from sparsearch.errors import ConfigError, ConflictError
from sparsearch.job.config import dump_config, identity, load_config, parse_config
from sparsearch.job.folder import RunFolder
from sparsearch.job.job import Job
from sparsearch.job.journal import Journal
from sparsearch.job.prepare import check_names
from sparsearch.job.sections import StartLevel
from sparsearch.job.warm_start import start_allocation
from sparsearch.space import Budget, Profile
from sparsearch.space.repair import repair
from sparsearch.testing import quadratic_problem


@pytest.fixture
def finished(tmp_path, tiny_llama_folder):
    return tiny_jobs.finished_run(tiny_llama_folder, tmp_path / "finished")


def start_of(space, allocation):
    profile = Profile.of(space, allocation)
    return {site["name"]: StartLevel(level=site["level"], sparsity=site["sparsity"]) for site in profile.sites}


def test_levels_that_meet_the_budget_stay_as_they_are_patterns_included():
    problem = quadratic_problem(Budget(sparsity=0.55), levels=("3:4", "2:4", "1:4", 0.5)).problem
    rng = np.random.default_rng(0)
    allocation = repair(problem.space, problem.limits, rng.integers(0, problem.space.counts), rng)
    assert start_allocation(start_of(problem.space, allocation), problem.space, problem.limits) == allocation


def test_other_grids_and_budgets_are_repaired():
    coarse = quadratic_problem(Budget(sparsity=0.6)).problem
    rng = np.random.default_rng(0)
    allocation = repair(coarse.space, coarse.limits, rng.integers(0, coarse.space.counts), rng)
    fine = quadratic_problem(Budget(sparsity=0.7), levels=[step / 20 for step in range(1, 20)]).problem
    found = start_allocation(start_of(coarse.space, allocation), fine.space, fine.limits)
    assert fine.limits.met(found)
    before, after = (
        np.array([site["sparsity"] for site in Profile.of(space, chosen).sites])
        for space, chosen in ((coarse.space, allocation), (fine.space, found))
    )
    assert np.corrcoef(before, after)[0, 1] > 0.9


def test_other_sites_are_refused():
    problem = quadratic_problem(blocks=1).problem
    start = start_of(problem.space, problem.space.dense())
    last = problem.space.sites[-1].name
    for changed, where in (({"other": start[last]} | start, "the search space"), (start.copy(), "the profile")):
        if where == "the profile":
            del changed[last]
        with pytest.raises(ConfigError, match=rf"warm_start: site .* is missing from {where}; give a profile of the"):
            start_allocation(changed, problem.space, problem.limits)


def test_the_content_is_pinned_not_the_path(tmp_path, finished):
    best = finished / "profiles" / "best.json"
    copy = tmp_path / "copy.json"
    copy.write_bytes(best.read_bytes())
    mapping = tiny_jobs.mapping(tmp_path, "model")
    one, two = (parse_config(mapping | {"warm_start": str(path)}) for path in (best, copy))
    assert one == two
    assert identity(one) == identity(two) != identity(parse_config(mapping))
    assert identity(parse_config(mapping))["warm_start"] is None
    dumped = tmp_path / "config.yaml"
    dumped.write_text(dump_config(one))
    copy.unlink()
    best.unlink()
    assert load_config(dumped) == one
    sites = json.loads((finished / "profiles" / "uniform.json").read_text())["sites"]
    assert one.warm_start.keys() == {site["name"] for site in sites}


def test_a_relative_path_starts_from_the_job_file_and_an_override_from_here(tmp_path, monkeypatch, finished):
    job = tiny_jobs.write_job(tmp_path, "model", warm_start="finished/runs/job/profiles/best.json")
    other = tiny_jobs.write_job(tmp_path, "model", name="other.yaml")
    monkeypatch.chdir(finished)
    assert load_config(job).warm_start == load_config(other, ["warm_start=profiles/best.json"]).warm_start


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("absent.json", r"job\.yaml: warm_start: .*absent\.json does not exist; give the path of a profile"),
        ("text.txt", r"job\.yaml: warm_start: .*text\.txt is not valid JSON"),
        (3, r"job\.yaml: warm_start: found 3; allowed: the path of a profile, such as RUN/profiles/best\.json"),
        ({"a": "0.5"}, r"job\.yaml: warm_start: found \{'a': '0\.5'\}; allowed: the path of a profile"),
        ({"a": {"level": "0.5", "sparsity": 2.0}}, r"job\.yaml: warm_start\.a\.sparsity: found 2\.0; allowed"),
        ({}, r"job\.yaml: warm_start: found \{\}; allowed"),
    ],
)
def test_what_is_no_profile_is_told(tmp_path, given, message):
    path = tmp_path / "job.yaml"
    mapping = tiny_jobs.mapping(tmp_path, "model") | {"warm_start": given}
    with pytest.raises(ConfigError, match=message) as caught:
        parse_config(mapping, str(path))
    assert "\n" not in str(caught.value)


def test_searchers_that_do_not_start_anywhere_say_so(tmp_path, finished):
    mapping = tiny_jobs.mapping(tmp_path, "model", warm_start=str(finished / "profiles" / "best.json"))
    check_names(parse_config(mapping))
    with pytest.raises(
        ConfigError, match=r"warm_start: erk does not start from a given allocation; .*choose one of .*evopress"
    ):
        check_names(parse_config(mapping | {"searcher": "erk"}))


def test_a_search_starts_there_and_resumes_to_the_same_end(tmp_path, tiny_llama_folder, finished):
    start = tmp_path / "start.json"
    start.write_bytes((finished / "profiles" / "best.json").read_bytes())
    text = finished.parent.parent / "text.txt"
    mapping = tiny_jobs.mapping(
        finished.parent.parent, tiny_llama_folder, warm_start=str(start), run={"dir": str(finished.parent / "warm")},
        data={"files": [str(text)]},
    )  # fmt: skip
    job = Job.of(mapping)
    given = Profile.load(start).allocation(job.prepared.space)
    assert job.prepared.start == given
    assert job.prepared.warnings == ()
    found = job.search()
    with Journal.read(job.folder.journal) as journal:
        rows = list(journal.rows())
        assert journal.fact("found") == list(found.allocation(job.prepared.space).levels)
    # The last stage of the first generation compares the offspring with the start.
    assert given in {row.allocation for row in rows if row.panel == "search"}
    start.unlink()
    again = Job.load(job.folder.config, (f"run.dir={job.folder.path}",))
    assert again.search() == found
    with Journal.read(job.folder.journal) as journal:
        assert list(journal.rows()) == rows


def test_what_had_to_be_moved_is_told(tmp_path, tiny_llama_folder, finished):
    start = str(finished / "profiles" / "uniform.json")
    job = Job.of(tiny_jobs.mapping(tmp_path, tiny_llama_folder, warm_start=start, budget={"sparsity": 0.7}))
    (warning,) = job.prepared.warnings
    assert re.fullmatch(
        r"warm_start: \d+ of 14 sites were moved, by up to 25\.00%, to levels of this space that use up this budget",
        warning,
    )
    assert job.prepared.limits.met(job.prepared.start)


def test_another_start_is_another_job(tmp_path, finished):
    folder = RunFolder(tmp_path / "run")
    mapping = tiny_jobs.mapping(tmp_path, "model")
    starts = [{"warm_start": str(finished / "profiles" / name)} for name in ("best.json", "uniform.json")]
    folder.claim(parse_config(mapping | starts[0]))
    folder.check(parse_config(mapping | starts[0]))
    with pytest.raises(ConflictError, match=r"warm_start: [0-9a-f']+ in the run folder, [0-9a-f']+ in job\.yaml"):
        folder.check(parse_config(mapping | starts[1]))
