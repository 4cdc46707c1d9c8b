import json
from pathlib import Path

import pytest
import tiny_jobs
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, BertConfig, BertModel

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.export.run import check_target, chosen_profile, complete_export, export_run, open_run
from sparsearch.job.job import Job
from sparsearch.job.journal import Journal
from sparsearch.reference import reference_path
from sparsearch.space import Profile
from sparsearch.supernet import Supernet


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Jobs of these tests are so small that a second thread only costs, on a busy machine tenfold."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(tmp_path, tiny_llama_folder):
    return tiny_jobs.finished_run(tiny_llama_folder, tmp_path / "finished")


def test_the_checkpoint_is_the_profile_s_and_verified_and_the_live_model_dense_again(run, tmp_path, tiny_llama_folder):
    job = open_run(run)
    before = {name: value.clone() for name, value in job.prepared.model.module.state_dict().items()}
    done = export_run(job, tmp_path / "out")
    assert done.verified.max_difference == 0.0
    space = job.prepared.space
    supernet = Supernet(job.prepared.supernet_folder, space)
    weights, dense = load_file(done.out / "model.safetensors"), load_file(tiny_llama_folder / "model.safetensors")
    levels = Profile.load(run / "profiles" / "best.json").allocation(space).levels
    pruned = {
        f"{site.name}.weight": (index, level)
        for index, (site, level) in enumerate(zip(space.sites, levels, strict=True))
    }
    assert len(set(levels)) > 1
    for name, weight in weights.items():
        index, level = pruned.get(name, (0, 0))
        assert torch.equal(weight, supernet.variant(index, level, dense[name]) if level else dense[name])
    after = job.prepared.model.module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_what_lies_beside_the_weights(run, tmp_path):
    out = export_run(run, tmp_path / "out", profile="uniform", verify=False).out
    assert (out / "sparsearch" / "config.yaml").read_bytes() == (run / "config.yaml").read_bytes()
    assert (out / "sparsearch" / "profile.json").read_bytes() == (run / "profiles" / "uniform.json").read_bytes()
    card = (out / "README.md").read_text()
    for wanted in ("50.00%", "searched: evopress", "generations: 3", "| uniform |"):
        assert wanted in card
    assert "quantization_config" not in json.loads((out / "config.json").read_text())
    tokens = AutoTokenizer.from_pretrained(out)("some words", return_tensors="pt")
    assert AutoModelForCausalLM.from_pretrained(out)(**tokens).logits.isfinite().all()


def test_a_profile_of_one_s_own_also_before_the_search_has_finished(run, tmp_path):
    profile = json.loads((run / "profiles" / "uniform.json").read_text())
    for site in profile["sites"]:
        site["level"], site["sparsity"] = ("0.75", 0.75) if "mlp" in site["name"] else ("dense", 0.0)
    (tmp_path / "mine.json").write_text(json.dumps(profile))
    with Journal.create_or_open(run / "journal.sqlite") as journal:
        journal.set_fact("comparison", None)
    (run / "profiles" / "best.json").unlink()
    done = export_run(run, tmp_path / "out", profile=str(tmp_path / "mine.json"), verify=False)
    assert done.profile.sparsity == pytest.approx(0.45)
    assert "not measured" in (done.out / "README.md").read_text()
    weights = load_file(done.out / "model.safetensors")
    zeros = {site["name"]: int((weights[f"{site['name']}.weight"] == 0).sum()) for site in profile["sites"]}
    assert all((count >= 0.75 * 32 * 48) == ("mlp" in name) for name, count in zeros.items())


def test_an_encoder_goes_all_the_way(tmp_path):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=2048, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128,
    )  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / "encoder")
    AutoTokenizer.from_pretrained(reference_path()).save_pretrained(tmp_path / "encoder")
    objective = {"objective": "hidden", "panel": tiny_jobs.PANEL}
    job = Job.of(tiny_jobs.mapping(tmp_path, tmp_path / "encoder", objective=objective))
    job.search()
    done = export_run(job, tmp_path / "out")
    assert done.verified.max_difference == 0.0
    assert type(AutoModel.from_pretrained(tmp_path / "out")).__name__ == "BertModel"


def test_completing_verifies_what_is_there_already(run, tmp_path):
    """A run that was killed between writing and verifying has left a checkpoint that nobody has checked."""
    job, out = open_run(run), tmp_path / "out"
    export_run(job, out, verify=False)
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    done = complete_export(job, out)
    assert done.verified.max_difference == 0.0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == written
    (out / "model.safetensors").unlink()
    with pytest.raises(
        ResourceError, match=r"verify: .* does not load in a fresh process .*delete the folder and export"
    ):
        complete_export(job, out)


def test_only_free_folders_and_exports_of_the_job_are_targets(run, tmp_path):
    job, out = open_run(run), tmp_path / "out"
    check_target(job, out)
    out.mkdir()
    check_target(job, out)
    (out / "file").touch()
    with pytest.raises(ConfigError, match=r"out: .*out exists and is no export of this job"):
        check_target(job, out)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="no export of this job"):
        check_target(job, tmp_path / "file")
    export_run(job, tmp_path / "mine", profile="uniform", verify=False)
    check_target(Job.load(run.parent.parent / "job.yaml", ("run.time_limit=1h",)), tmp_path / "mine")
    with pytest.raises(ConfigError, match="no export of this job"):
        check_target(Job.load(run.parent.parent / "job.yaml", ("seed=9",)), tmp_path / "mine")
    with pytest.raises(ConfigError, match="holds another profile of this job"):
        complete_export(job, tmp_path / "mine")


def test_opening_what_is_no_run(tmp_path):
    with pytest.raises(ConfigError, match=r"is no run folder \(no config\.yaml\); give the folder of a job"):
        open_run(tmp_path)


def test_a_run_that_was_moved_opens_where_it_is(run, tmp_path):
    moved = tmp_path / "moved"
    run.parent.rename(moved)
    job = open_run(moved / "job")
    assert job.folder.path == moved / "job"
    assert job.prepared.supernet_folder.is_dir()
    assert chosen_profile(job.folder, "best").sparsity == pytest.approx(0.5)


def test_profiles_by_name_and_by_path(run):
    folder = open_run(run).folder
    assert chosen_profile(folder, "uniform") == chosen_profile(folder, str(Path(run, "profiles", "uniform.json")))
    with pytest.raises(ConfigError, match=r"--profile: bst does not exist \(no such file\); allowed: best, uniform, "):
        chosen_profile(folder, "bst")
