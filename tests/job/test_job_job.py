import contextlib
import errno
import os
import re
import sqlite3

import pytest
import tiny_jobs

from sparsearch.errors import ConflictError, ResourceError, Stopped
from sparsearch.job import journal as journal_module
from sparsearch.job.job import Job
from sparsearch.job.journal import Journal
from sparsearch.job.lock import RunLock
from sparsearch.space import Profile


@pytest.fixture
def finished(tmp_path, tiny_llama_folder):
    """The run folder of a job that ran to its end without a stop."""
    return tiny_jobs.finished_run(tiny_llama_folder, tmp_path / "finished")


@pytest.fixture
def job_file(tmp_path, tiny_llama_folder):
    """The same job, not started."""
    folder = tmp_path / "new"
    folder.mkdir()
    return tiny_jobs.write_job(folder, tiny_llama_folder)


def folder_of(job_file):
    return job_file.parent / "runs" / "job"


def results(run):
    with Journal.read(run / "journal.sqlite") as journal:
        return list(journal.rows()), {path.name: path.read_bytes() for path in run.glob("profiles/*")}


def statistics_in(run):
    with contextlib.closing(sqlite3.connect(run / "journal.sqlite")) as connection:
        return connection.execute("SELECT COUNT(DISTINCT key) FROM arrays").fetchone()[0]


def comparison(run):
    with Journal.read(run / "journal.sqlite") as journal:
        return journal.fact("comparison")


def shards(run):
    return {path.name: path.read_bytes() for path in run.parent.glob("supernets/*/sites/*")}


def test_a_job_tells_its_stages_in_order_and_logs_its_lines(job_file):
    events = []
    profile = Job.load(job_file, listener=events.append).search()
    steps = [event for event in events if event.total]
    assert list(dict.fromkeys(event.stage for event in steps)) == ["build", "search", "compare"]
    for stage, total in (("build", 14), ("search", 3), ("compare", 2)):
        done = [event.done for event in steps if event.stage == stage]
        assert done == sorted(done)
        assert done[-1] == total
    lines = [f"{event.stage}: {event.text}" for event in events if not event.total]
    logged = (folder_of(job_file) / "run.log").read_text().splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", line) for line in logged] == lines
    assert any("evopress is done after" in line for line in lines)
    assert profile == Profile.load(folder_of(job_file) / "profiles" / "best.json")


def test_the_profile_meets_its_budget_and_says_where_it_comes_from(finished, tiny_llama_folder):
    best = Profile.load(finished / "profiles" / "best.json")
    uniform = Profile.load(finished / "profiles" / "uniform.json")
    assert best.sparsity == pytest.approx(0.5)
    assert {site["level"] for site in uniform.sites} == {"0.5"}
    assert best.provenance["model"] == str(tiny_llama_folder)
    assert (best.provenance["searcher"], best.provenance["seed"]) == ("evopress", 0)
    assert set(best.figures["heldout"]) >= {"dense", "uniform", "searched: evopress"}
    assert best.figures["heldout"]["dense"]["objective"]["mean"] == 0.0


def test_building_first_changes_nothing(job_file, finished):
    supernet = Job.load(job_file).build()
    assert shards(folder_of(job_file)) == shards(finished)
    assert not (folder_of(job_file) / "profiles").exists()
    Job.load(job_file).search()
    assert results(folder_of(job_file))[0] == results(finished)[0]
    assert len(supernet.space) == 14


def test_running_a_finished_job_again_changes_nothing_in_its_results(finished):
    rows, before, measured = *results(finished), comparison(finished)
    Job.load(finished.parent.parent / "job.yaml").search()
    assert results(finished) == (rows, before)
    # What the search has cost too: the allocators' evaluations are no part of it.
    assert comparison(finished) == measured
    searched = measured["rows"][-1]
    with Journal.read(finished / "journal.sqlite") as journal:
        assert 0 < searched["forward_tokens"] < journal.totals()["search"].forward_tokens


def test_a_time_limit_stops_where_it_can_go_on_and_every_run_gets_further(finished, monkeypatch):
    """A limit that is over at once leaves each run one evaluation or statistic."""
    monkeypatch.setattr("sparsearch.job.baselines.ALLOCATORS", ("uniform", "lamp", "owl"))
    changes = ("searcher.generations=1", "searcher.offspring=3", f"run.dir={finished.parent / 'limited'}")
    job_file, run = finished.parent.parent / "job.yaml", finished.parent / "limited"
    known = []
    while True:
        try:
            Job.load(job_file, (*changes, "run.time_limit=0.000001")).search()
            break
        except Stopped as stop:
            assert stop.exit_code == 75
            known.append(len(results(run)[0]) + statistics_in(run))
            assert len(set(known)) == len(known)
    assert known == sorted(known)
    whole = finished.parent / "unlimited"
    Job.load(job_file, (*changes[:2], f"run.dir={whole}")).search()
    assert results(run) == results(whole)


def test_a_folder_of_another_job_stays_as_it_is(finished):
    before = tiny_jobs.listing(finished)
    job = Job.load(finished.parent.parent / "job.yaml", ("seed=1",))
    for step in (job.build, job.search):
        with pytest.raises(ConflictError, match=r"seed: 0 in the run folder, 1 in job\.yaml"):
            step()
    assert tiny_jobs.listing(finished) == before


def test_a_second_writer_is_refused_and_changes_nothing(finished):
    with RunLock(finished):
        before = tiny_jobs.listing(finished)
        with pytest.raises(ConflictError, match=rf"{finished} is in use by process {os.getpid()} on "):
            Job.load(finished.parent.parent / "job.yaml").search()
        assert tiny_jobs.listing(finished) == before


def test_jobs_with_other_seeds_share_the_supernet(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.parent.glob("supernets/*/sites/*")}
    Job.load(finished.parent.parent / "job.yaml", ("seed=1", f"run.dir={finished.parent / 'other'}")).search()
    after = {path: path.stat().st_mtime_ns for path in finished.parent.glob("supernets/*/sites/*")}
    assert after == before
    assert results(finished.parent / "other")[0] != results(finished)[0]


def test_profiles_are_measured_again_from_the_journal(finished):
    rows, _ = results(finished)
    job = Job.load(finished.parent.parent / "job.yaml")
    profiles = {name: Profile.load(finished / "profiles" / f"{name}.json") for name in ("uniform", "best")}
    found = {row["name"]: row for row in job.evaluate(profiles)["rows"]}
    stored = {row["name"]: row for row in comparison(finished)["rows"]}
    for name, shown in (("dense", "dense"), ("uniform", "uniform"), ("best", "searched: evopress")):
        assert found[name]["objective"] == stored[shown]["objective"]
        assert found[name]["perplexity"] == stored[shown]["perplexity"]
    assert results(finished)[0] == rows


def test_a_supernet_around_a_profile_is_another_one(finished):
    job = Job.load(
        finished.parent.parent / "job.yaml",
        (
            "space.propagation=allocation",
            f"space.profile={finished / 'profiles' / 'best.json'}",
            f"run.dir={finished.parent / 'around'}",
        ),
    )
    job.search()
    assert len(list(finished.parent.glob("supernets/*/manifest.json"))) == 2


def test_a_second_round_of_prune_and_search_goes_around_the_first_ones_profile(tmp_path, tiny_llama_folder):
    """What Týr-the-Pruner does by itself takes two jobs here: each on a supernet of its own."""
    tyr = {"name": "tyr", "rounds": 2, "generations": 2, "offspring": 4, "survivors": [2, 1], "tokens": [31, 93]}
    space = {"levels": [step / 20 for step in range(1, 20)], "pruner": "wanda", "accumulation": "expectation"}
    job = tiny_jobs.mapping(tmp_path, tiny_llama_folder, searcher=tyr, space=space)
    found = Job.of(job).search()
    best = str(tmp_path / "runs" / "job" / "profiles" / "best.json")
    again = job | {"space": space | {"propagation": "allocation", "profile": best}, "warm_start": best}
    second = Job.of(again | {"run": {"dir": str(tmp_path / "runs" / "second")}})
    assert second.search().provenance["supernet"] != found.provenance["supernet"]
    assert second.prepared.start == found.allocation(second.prepared.space)
    for path in tmp_path.glob("runs/supernets/*/manifest.json"):
        assert '"weighting": "expectation"' in path.read_text()
    rows, profiles = results(tmp_path / "runs" / "second")
    Job.of(again | {"run": {"dir": str(tmp_path / "runs" / "second")}}).search()
    assert results(tmp_path / "runs" / "second") == (rows, profiles)


def test_a_truncated_shard_is_made_again_by_the_next_run(finished):
    before = shards(finished)
    shard = next(finished.parent.glob("supernets/*/sites/00003.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    Job.load(finished.parent.parent / "job.yaml").search()
    assert shards(finished) == before


def full_files(monkeypatch, name):
    """Has the disk be full for files whose name contains `name`."""
    fsync = os.fsync

    def full(descriptor):
        if name in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)


@pytest.mark.parametrize("name", ["config.yaml", "00005.safetensors", "manifest.json", "best.json"])
def test_a_full_disk_names_the_file_and_the_same_job_goes_on(monkeypatch, job_file, finished, name):
    with monkeypatch.context() as patch:
        full_files(patch, name)
        with pytest.raises(ResourceError, match=rf"cannot write .*{name}.*: No space left on device; free space"):
            Job.load(job_file).search()
    assert not list(job_file.parent.glob(f"**/{name}"))
    assert not list(job_file.parent.glob("**/.*.tmp"))
    Job.load(job_file).search()
    assert results(folder_of(job_file))[0] == results(finished)[0]
    assert shards(folder_of(job_file)) == shards(finished)


def test_a_full_disk_under_the_journal_keeps_what_is_in_it(monkeypatch, job_file, finished):
    open_writable = journal_module.open_writable

    def small(path):
        connection = open_writable(path)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "open_writable", small)
        with pytest.raises(ResourceError, match=r"journal\.sqlite cannot be .*database or disk is full"):
            Job.load(job_file).search()
    kept, _ = results(folder_of(job_file))
    assert kept
    assert kept == results(finished)[0][: len(kept)]
    Job.load(job_file).search()
    assert results(folder_of(job_file))[0] == results(finished)[0]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_under_the_log_is_told(job_file):
    folder_of(job_file).mkdir(parents=True)
    (folder_of(job_file) / "run.log").symlink_to("/dev/full")
    with pytest.raises(ResourceError, match=r"cannot write .*run\.log: No space left on device"):
        Job.load(job_file).search()


def test_too_little_disk_for_the_supernet_is_told_before_anything_is_written(monkeypatch, job_file):
    monkeypatch.setattr("sparsearch.job.plan.free_bytes", lambda folder: 1000)
    before = tiny_jobs.listing(job_file.parent)
    with pytest.raises(ResourceError, match=r"needs about 0\.00 GiB, .* are free; give supernet: a folder on a larger"):
        Job.load(job_file).search()
    assert tiny_jobs.listing(job_file.parent) == before


def test_what_is_built_already_needs_no_disk(monkeypatch, finished):
    """Else a build that was stopped with half of the disk behind it could never go on."""
    next(finished.parent.glob("supernets/*/manifest.json")).unlink()
    next(finished.parent.glob("supernets/*/sites/00000.safetensors")).unlink()
    monkeypatch.setattr("sparsearch.job.plan.free_bytes", lambda folder: 3000)
    Job.load(finished.parent.parent / "job.yaml").build()


def test_a_damaged_journal_is_named_and_left_alone(finished):
    (finished / "journal.sqlite").write_bytes(b"this is no database" * 100)
    before = tiny_jobs.listing(finished)
    with pytest.raises(ResourceError, match=r"journal\.sqlite is no journal or is damaged"):
        Job.load(finished.parent.parent / "job.yaml").search()
    assert tiny_jobs.listing(finished) == before


def test_a_reader_in_the_middle_does_not_stop_the_writer(finished):
    reader = sqlite3.connect(finished / "journal.sqlite")
    try:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM evaluations").fetchone()
        Job.load(finished.parent.parent / "job.yaml").search()
    finally:
        reader.close()
