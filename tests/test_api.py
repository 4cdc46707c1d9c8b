import json

import pytest
import tiny_jobs
import torch

import sparsearch
from sparsearch.api import DEFAULT_LEVELS
from sparsearch.errors import ConfigError, InfeasibleBudgetError
from sparsearch.model.panel import Panel


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Jobs of these tests are so small that a second thread only costs, on a busy machine tenfold."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def panel():
    ids = torch.randint(0, 2048, (4, 16), generator=torch.Generator().manual_seed(0))
    return Panel({"input_ids": ids})


def test_every_public_name_is_there():
    for name in sparsearch.__all__:
        assert getattr(sparsearch, name) is not None
    assert set(sparsearch.__all__) >= {
        "Allocation", "Budget", "Job", "Profile", "SearchSpace", "build_supernet", "export", "load_model",
    }  # fmt: skip
    with pytest.raises(AttributeError, match="module 'sparsearch' has no attribute 'nothing'"):
        _ = sparsearch.nothing


def test_a_job_from_a_mapping_to_an_export(tmp_path, tiny_llama_folder):
    job = sparsearch.Job.of(tiny_jobs.mapping(tmp_path, tiny_llama_folder))
    profile = job.search()
    assert profile.sparsity == pytest.approx(0.5)
    sparsearch.export(job, tmp_path / "pruned", verify=False)
    stored = sparsearch.Profile.load(tmp_path / "pruned" / "sparsearch" / "profile.json")
    assert stored == profile
    reloaded = sparsearch.load_model(str(tmp_path / "pruned"))
    for site in profile.sites:
        weight = reloaded.module.get_submodule(site["name"]).weight
        assert int((weight == 0).sum()) >= round(site["sparsity"] * weight.numel())


def test_a_run_folder_is_as_good_as_a_job(tmp_path, tiny_llama_folder):
    run = tiny_jobs.finished_run(tiny_llama_folder, tmp_path / "finished")
    exported = sparsearch.export(run, tmp_path / "out", profile="uniform", verify=False)
    assert exported.profile == sparsearch.Profile.load(run / "profiles" / "uniform.json")
    assert exported.verified is None


def test_space_budget_and_supernet_for_a_model_of_one_s_own(tmp_path, tiny_llama_folder, panel):
    model = sparsearch.load_model(str(tiny_llama_folder))
    space = sparsearch.search_space(model, levels=[0.5, "2:4"], targets=["*mlp*"])
    assert {site.name.split(".")[3] for site in space.sites} == {"mlp"}
    limits = sparsearch.Budget(sparsity=0.25).limits(space)
    supernet = sparsearch.build_supernet(model, space, panel, tmp_path / "supernet", "wanda+refit")
    half = sparsearch.Allocation((1,) * len(space))
    assert limits.met(half)
    site = space.sites[0]
    variant = supernet.variant(0, 1, model.module.get_submodule(site.name).weight.half())
    assert int((variant == 0).sum()) >= site.size // 2
    again = sparsearch.build_supernet(model, space, panel, tmp_path / "supernet", "wanda+refit")
    assert again.fingerprint == supernet.fingerprint


def test_the_default_grid_is_that_of_the_shipped_space(tiny_llama_folder):
    space = sparsearch.search_space(sparsearch.load_model(str(tiny_llama_folder)))
    assert [level.label for level in space.levels[0]] == ["dense", *(f"{level:g}" for level in DEFAULT_LEVELS)]
    assert (DEFAULT_LEVELS[0], DEFAULT_LEVELS[-1], len(DEFAULT_LEVELS)) == (0.1, 0.95, 18)


def test_bad_arguments_are_told_in_one_line(tmp_path, tiny_llama_folder, panel):
    model = sparsearch.load_model(str(tiny_llama_folder))
    space = sparsearch.search_space(model, levels=[0.5])
    for call, error, message in (
        (lambda: sparsearch.search_space(model, levels=[1.5]), ConfigError, "levels"),
        (lambda: sparsearch.search_space(model, targets=["*x*"]), ConfigError, r"targets: '\*x\*' matches no"),
        (lambda: sparsearch.Budget(sparsity=0.9).limits(space), InfeasibleBudgetError, "0.9"),
        (lambda: sparsearch.build_supernet(model, space, panel, tmp_path / "s", "wnada"), ConfigError, "'wanda'"),
        (
            lambda: sparsearch.build_supernet(model, space, panel, tmp_path / "s", "wanda", {"x": 1}),
            ConfigError,
            "pruner: pruner wanda has no option 'x'",
        ),
        (lambda: sparsearch.Job.of({"budget": {"sparsity": 0.5}, "seeds": 1}), ConfigError, "did you mean 'seed'"),
    ):
        with pytest.raises(error, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_profiles_survive_json(tmp_path, tiny_llama_folder):
    run = tiny_jobs.finished_run(tiny_llama_folder, tmp_path / "finished")
    profile = sparsearch.Profile.load(run / "profiles" / "best.json")
    profile.save(tmp_path / "copy.yaml")
    assert json.dumps(sparsearch.Profile.load(tmp_path / "copy.yaml").to_dict()) == json.dumps(profile.to_dict())
