import numpy as np
import optuna
import pytest
import tiny_jobs
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from sparsearch.errors import ConfigError
from sparsearch.export import optuna_study
from sparsearch.export.optuna_study import Mean, export_study, mean_values, most_evaluated
from sparsearch.export.run import open_run
from sparsearch.job.journal import Evaluation, Journal
from sparsearch.space import Allocation, Profile


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(tmp_path, tiny_llama_folder):
    return tiny_jobs.finished_run(tiny_llama_folder, tmp_path / "finished")


def load(path, name="job"):
    return optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(str(path))))


def test_optuna_loads_every_evaluated_allocation_with_its_mean(run, tmp_path):
    count = export_study(run, tmp_path / "study.log")
    study = load(tmp_path / "study.log")
    job = open_run(run)
    space = job.prepared.space
    values: dict[Allocation, list[float]] = {}
    with Journal.read(run / "journal.sqlite") as journal:
        for row in journal.rows():
            if row.panel == "search":
                values.setdefault(row.allocation, []).extend(row.values)
    assert len(study.trials) == count == len(values)
    for trial, (allocation, found) in zip(study.trials, values.items(), strict=True):
        assert trial.value == pytest.approx(np.mean(found))
        assert trial.user_attrs["sequences"] == len(found)
        assert trial.user_attrs["tokens"] == len(found) * 31
        wanted = space.sparsities[np.arange(len(space)), allocation.array]
        assert trial.params == dict(zip([site.name for site in space.sites], wanted, strict=True))
    assert study.user_attrs["objective"] == "kl"
    assert study.user_attrs["budget"] == {"sparsity": "0.5"}
    best = Profile.load(run / "profiles" / "best.json").allocation(space)
    (marked,) = (trial for trial in study.trials if trial.user_attrs.get("profile") == "best")
    assert list(values)[marked.number] == best
    assert list(tmp_path.glob("*study.log*")) == [tmp_path / "study.log"], "a lock or a temporary file was left"


def test_optuna_may_go_on_with_the_study(run, tmp_path):
    """Its samplers read the trials: the parameters have the ranges of the levels."""
    export_study(run, tmp_path / "study.log")
    study = load(tmp_path / "study.log")
    trial = study.ask(study.trials[0].distributions)
    assert trial.params.keys() == study.trials[0].params.keys()
    assert 0 <= max(trial.params.values()) <= 0.75


def test_only_the_most_evaluated_ones_of_too_many_are_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr(optuna_study, "MOST_TRIALS", 3)
    assert export_study(run, tmp_path / "few.log") == 3
    assert all(trial.user_attrs["sequences"] >= 3 for trial in load(tmp_path / "few.log").trials)


def test_rows_of_one_allocation_make_one_mean_and_other_panels_none():
    first, second = Allocation((0, 1)), Allocation((1, 0))
    rows = [
        Evaluation(1, "search", "kl", first, (0, 1), (1.0, 2.0)),
        Evaluation(2, "heldout", "kl", first, (0,), (9.0,)),
        Evaluation(3, "search", "kl", second, (0,), (5.0,)),
        Evaluation(4, "search", "perplexity", first, (2,), (9.0,)),
        Evaluation(5, "search", "kl", first, (2,), (6.0,)),
    ]
    assert mean_values(rows, "search", "kl") == [Mean(first, 3.0, 3), Mean(second, 5.0, 1)]


def test_the_earlier_ones_of_equally_evaluated_ones_are_kept_in_order():
    means = [Mean(Allocation((index,)), 0.0, count) for index, count in enumerate([1, 4, 2, 4, 2])]
    assert [mean.allocation.levels[0] for mean in most_evaluated(means, 3)] == [1, 2, 3]
    assert most_evaluated(means, 9) == means


def test_a_file_that_exists_is_left_alone(run, tmp_path):
    (tmp_path / "study.log").write_text("mine")
    with pytest.raises(ConfigError, match=r"--out: .*study\.log exists; choose another file"):
        export_study(run, tmp_path / "study.log")
    assert (tmp_path / "study.log").read_text() == "mine"


def test_allocations_over_the_budget_are_left_out(run, tmp_path):
    space = open_run(run).prepared.space
    with Journal.create_or_open(run / "journal.sqlite") as journal:
        journal.append("search", "kl", space.dense(), (0,), np.zeros(1), 31.0, 0.1)
    export_study(run, tmp_path / "study.log")
    assert all(any(trial.params.values()) for trial in load(tmp_path / "study.log").trials)


def test_a_run_without_evaluations_is_refused(run, tmp_path):
    (run / "journal.sqlite").unlink()
    Journal.create_or_open(run / "journal.sqlite").close()
    with pytest.raises(ConfigError, match="has no evaluations within the budget yet"):
        export_study(run, tmp_path / "study.log")
    assert not (tmp_path / "study.log").exists()
