"""A job with a multi-objective searcher: the profiles of its front, what may be asked for by name, and its record."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from pymoo.indicators.hv import HV
from tiny_jobs import mapping

from sparsearch.cli.main import run
from sparsearch.errors import ConfigError
from sparsearch.export.optuna_study import export_study
from sparsearch.export.run import chosen_profile, open_run
from sparsearch.job.folder import RunFolder
from sparsearch.job.front import FRONT_POINTS, hypervolume_curve, read_front
from sparsearch.job.job import Job
from sparsearch.job.journal import Journal
from sparsearch.search.front import nondominated
from sparsearch.space import Profile

SEARCHER = {"name": "nsga2", "resources": ["bytes"], "generations": 3, "population": 20, "sequences": 2, "finals": 4}


@pytest.fixture(scope="module")
def searched(tmp_path_factory, tiny_llama_folder):
    folder = tmp_path_factory.mktemp("front")
    job = Job.of(mapping(folder, tiny_llama_folder, searcher=SEARCHER))
    job.search()
    return job


@pytest.fixture
def points(searched):
    return [Profile.load(path) for path in searched.folder.front]


def test_profiles_are_the_front_in_order(searched, points):
    assert 1 < len(points) <= FRONT_POINTS
    spent = [profile.resources["bytes"]["profile"] for profile in points]
    values = [profile.figures["front"]["objective"] for profile in points]
    assert spent == sorted(spent)
    assert nondominated(np.column_stack([values, spent])).all()
    assert points[int(np.argmin(values))].sites == Profile.load(searched.folder.best).sites


def test_points_are_measured_as_the_best_is(searched, points):
    best = Profile.load(searched.folder.best)
    same = next(profile for profile in points if profile.sites == best.sites)
    assert same.figures["heldout"]["searched: nsga2"] == best.figures["heldout"]["searched: nsga2"]
    for profile in points:
        assert profile.figures["heldout"].keys() == {"dense", "uniform", "searched: nsga2"}
        assert profile.sparsity == pytest.approx(profile.figures["heldout"]["searched: nsga2"]["sparsity"])
        assert profile.sparsity >= 0.5 and profile.budget == best.budget


def test_a_second_run_writes_the_same(searched, points):
    before = [path.read_bytes() for path in searched.folder.front]
    for path in searched.folder.front[1:]:
        path.unlink()
    Job(searched.config).search()
    assert [path.read_bytes() for path in searched.folder.front] == before


def test_points_are_chosen_by_name(searched, points):
    for index, profile in enumerate(points):
        assert chosen_profile(searched.folder, f"pareto:{index}") == profile
    x, y = (
        np.array([pick(profile) for profile in points])
        for pick in (lambda each: each.resources["bytes"]["profile"], lambda each: each.figures["front"]["objective"])
    )
    scaled = (x - x[0]) / (x[-1] - x[0]) + (y - y[-1]) / (y[0] - y[-1])
    assert chosen_profile(searched.folder, "knee") == points[int(np.argmin(scaled))]


@pytest.mark.parametrize("name", ["pareto:99", "pareto:-1", "pareto:", "pareto:x"])
def test_points_off_the_front_are_refused(searched, points, name):
    last = len(points) - 1
    with pytest.raises(
        ConfigError, match=f"--profile: {name} is no point.*allowed: pareto:0 to pareto:{last}, or knee"
    ):
        chosen_profile(searched.folder, name)


@pytest.mark.parametrize("name", ["pareto:0", "knee"])
def test_runs_without_a_front_are_refused(tmp_path, name):
    folder = RunFolder(tmp_path)
    with pytest.raises(ConfigError, match="has no front: the search has not finished"):
        chosen_profile(folder, name)
    folder.best.parent.mkdir()
    folder.best.write_text("{}")
    with pytest.raises(
        ConfigError, match=r"has no front: it was not searched for one \(nsga2 and nsga3 do, tpe and gp with .*allowed"
    ):
        chosen_profile(folder, name)


def test_export_and_eval_take_points(searched, points, tmp_path, capsys):
    where, out = str(searched.folder.path), tmp_path / "out"
    assert run(["export", where, "--out", str(out), "--profile", "pareto:0"]) == 0
    assert Profile.load(out / "sparsearch" / "profile.json") == points[0]
    capsys.readouterr()
    assert run(["eval", where, "--profile", "knee", "--profile", "pareto:1"]) == 0
    printed = capsys.readouterr().out
    assert "knee" in printed and "pareto:1" in printed
    assert open_run(where).folder.front == searched.folder.front


def test_bayesian_searches_write_a_front_too(tmp_path, tiny_llama_folder):
    searcher = {"name": "tpe", "resources": "bytes", "trials": 12, "basis": "curve", "sequences": 2, "finals": 4}
    job = Job.of(mapping(tmp_path, tiny_llama_folder, searcher=searcher))
    job.search()
    found = [Profile.load(path) for path in job.folder.front]
    assert len(found) > 1
    assert all(profile.figures["front"]["resources"] == ["bytes"] for profile in found)
    assert chosen_profile(job.folder, "knee") in found
    study = tmp_path / "study.log"
    export_study(job, study)
    loaded = optuna.load_study(study_name="job", storage=JournalStorage(JournalFileBackend(str(study))))
    assert loaded.metric_names == ["kl", "bytes"]
    assert [direction.name for direction in loaded.directions] == ["MINIMIZE", "MINIMIZE"]
    marked = {trial.user_attrs.get("profile"): trial for trial in loaded.trials}
    assert marked["pareto:0"].values[1] == found[0].resources["bytes"]["profile"]
    spent = [trial.values[1] for trial in loaded.best_trials]
    assert min(spent) == found[0].resources["bytes"]["profile"]


def test_a_resource_that_the_model_does_not_have_is_refused_before_any_work(tmp_path, tiny_llama_folder):
    job = Job.of(mapping(tmp_path, tiny_llama_folder, searcher=SEARCHER | {"resources": ["joules"]}))
    with pytest.raises(ConfigError, match=r"searcher\.resources: 'joules' is no resource.*params"):
        job.search()
    assert not job.folder.path.exists()


@pytest.fixture
def record(searched):
    with Journal.read(searched.folder.journal) as journal:
        return read_front(journal)


def test_the_record_has_what_the_generations_evaluated_and_nothing_else(searched, record):
    space = searched.prepared.space
    assert record.resources == ("bytes",) and record.sequences == SEARCHER["sequences"]
    assert record.objective == {"name": "KL", "unit": "nats/token"}
    # Neither the second look at the front, nor the allocators that the comparison has evaluated.
    assert len(set(record.allocations)) == len(record.allocations) <= SEARCHER["generations"] * SEARCHER["population"]
    assert all(searched.prepared.limits.met(each) for each in record.allocations)
    assert record.spent[:, 0].tolist() == [space.cost("bytes", each) for each in record.allocations]
    assert record.dense.tolist() == [space.cost("bytes", space.dense())]
    assert record.sparsest.tolist() == [space.cost("bytes", space.sparsest())]
    assert record.tokens[-1] == len(record.allocations) * record.sequences * searched.prepared.panels.search.length
    assert record.worst == record.values[record.allocations.index(space.sparsest())]


def test_the_hypervolume_grows_to_that_of_all_that_was_evaluated(record):
    curve = hypervolume_curve(record)
    tokens, volumes = zip(*curve, strict=True)
    assert list(tokens) == sorted(set(tokens)) and list(volumes) == sorted(volumes)
    assert tokens[0] == record.tokens[0] and tokens[-1] == record.tokens[-1]
    corner = np.array([record.worst, record.dense[0]])
    box = record.worst * (record.dense[0] - record.sparsest[0])
    points = np.column_stack([record.values, record.spent])
    assert volumes[-1] == pytest.approx(float(HV(ref_point=corner)(points)) / box)


def test_a_run_without_a_front_has_no_record(tmp_path):
    with Journal.create_or_open(tmp_path / "journal.sqlite") as journal:
        assert read_front(journal) is None
