import json

import pytest
import tiny_jobs
import torch
import yaml
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from sparsearch.errors import ConfigError
from sparsearch.export.imported import Place, import_evopress
from sparsearch.export.recipes import export_recipe
from sparsearch.job.job import Job
from sparsearch.reference import reference_path
from sparsearch.space import Profile


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


def with_levels(run, path, level):
    """The run's uniform profile with `level(site)` (label and sparsity) in place of its own."""
    content = json.loads((run / "profiles" / "uniform.json").read_text())
    for site in content["sites"]:
        site["level"], site["sparsity"] = level(site)
    path.write_text(json.dumps(content))
    return str(path)


def test_the_recipe_of_a_run_uses_the_job_s_pruner(run, tmp_path):
    done = export_recipe(run, tmp_path / "a" / "recipe.yaml", "llm-compressor")
    best = Profile.load(run / "profiles" / "best.json")
    assert (done.files, done.sparsity, done.notes) == ((tmp_path / "a" / "recipe.yaml",), best.sparsity, ())
    (modifiers,) = yaml.safe_load(done.files[0].read_text())["sparsity_stage"].values()
    assert modifiers.keys() == {"WandaPruningModifier"}


def test_a_pruner_that_the_library_lacks_is_told(tmp_path, tiny_llama_folder):
    space = {"levels": [0.5], "pruner": "magnitude"}
    job = Job.of(tiny_jobs.mapping(tmp_path, tiny_llama_folder, space=space, searcher="uniform"))
    job.search()
    done = export_recipe(job, tmp_path / "recipe.yaml", "llm-compressor")
    assert done.notes == ("llm-compressor has no pruner like magnitude; the recipe uses SparseGPTModifier",)
    assert "SparseGPTModifier" in done.files[0].read_text()


def test_layers_that_the_library_passes_over_are_refused(tmp_path):
    """GPT-2 keeps its weights in transformers' Conv1D."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=2048, n_embd=32, n_layer=2, n_head=4, n_positions=128, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    AutoTokenizer.from_pretrained(reference_path()).save_pretrained(tmp_path / "gpt2")
    job = Job.of(tiny_jobs.mapping(tmp_path, tmp_path / "gpt2", searcher="uniform"))
    job.search()
    with pytest.raises(ConfigError, match=r"c_attn is a Conv1D, which that library's pruning passes over"):
        export_recipe(job, tmp_path / "recipe.yaml", "llm-compressor")
    assert not (tmp_path / "recipe.yaml").exists()


@pytest.mark.parametrize("profile", ["best", "uniform"])
def test_level_text_and_its_sidecar_bring_the_profile_back(run, tmp_path, profile):
    done = export_recipe(run, tmp_path / "levels.txt", "evopress", profile=profile)
    assert [path.name for path in done.files] == ["levels.txt", "levels.txt.json"]
    place = Place.of_run(run)
    found = import_evopress(tmp_path / "levels.txt", place)
    assert found.profile.sites == Profile.load(run / "profiles" / f"{profile}.json").sites
    assert (found.met, found.profile.sparsity) == (True, done.profile.sparsity)
    beside = json.loads(done.files[1].read_text())
    assert (beside["target"], sum(beside["sizes"].values())) == (0.5, place.space.prunable)


def test_what_rounding_to_whole_steps_does_is_told(run, tmp_path):
    quarter = with_levels(run, tmp_path / "quarter.json", lambda site: ("0.25", 0.25))
    done = export_recipe(run, tmp_path / "levels.txt", "evopress", profile=quarter, target=0.5, step=200)
    # Of 512, 1024 and 1536 weights 128, 256 and 384 go; whole steps from the half: 1, 1 and 2 of 200.
    lines = dict(line.split(": ") for line in done.files[0].read_text().split("\n"))
    assert {name.rpartition(".")[2]: level for name, level in lines.items()} == {
        **{f"{kind}_proj": "-1" for kind in "qkvo"},
        **{f"{kind}_proj": "-2" for kind in ("gate", "up", "down")},
    }
    gone = 2 * (2 * (512 - 200) + 2 * (256 - 200) + 3 * (768 - 400)) / (2 * (2 * 1024 + 2 * 512 + 3 * 1536))
    assert done.sparsity == pytest.approx(gone)
    assert done.notes == (
        f"levels are whole steps of 200 weights from 0.5: rounding changed the sparsity from 25.0000% to {gone:.4%}, "
        f"of single layers by up to {abs(0.25 - (256 - 200) / 512):.2%}",
    )
    beside = json.loads(done.files[1].read_text())
    assert beside["profile_sparsity"] == pytest.approx(0.25)
    assert beside["largest_change"] == pytest.approx(0.25 - 56 / 512)


def test_levels_beyond_the_default_and_patterns_are_told(run, tmp_path):
    mixed = with_levels(run, tmp_path / "m.json", lambda site: ("2:4", 0.5) if site["block"] else ("0.75", 0.75))
    done = export_recipe(run, tmp_path / "levels.txt", "evopress", profile=mixed, target=0.5, step=32)
    assert done.notes[1:] == (
        "levels reach 12: build EvoPress's database with --num_levels 12 (its default is 8)",
        "7 layers have N:M levels, of which the text keeps the sparsity, not the pattern",
    )


def test_depth_text_of_dropped_sub_blocks_only(run, tmp_path):
    depth = with_levels(
        run, tmp_path / "d.json", lambda site: ("1", 1.0) if site["block"] or "mlp" in site["name"] else ("dense", 0.0)
    )
    done = export_recipe(run, tmp_path / "depth.txt", "evopress-depth", profile=depth)
    assert done.files[0].read_text() == "mlp\nattn+mlp\n"
    with pytest.raises(ConfigError, match="depth text can only say"):
        export_recipe(run, tmp_path / "other.txt", "evopress-depth")
    assert not (tmp_path / "other.txt").exists()


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("evopres", {}, r"--recipe: 'evopres' is unknown; allowed: .*\(did you mean 'evopress'\?\)"),
        ("llm-compressor", {"target": 0.5}, "--target and --step: llm-compressor has neither; allowed only with"),
        ("evopress", {"target": 1.0}, "--target: 1 is not allowed"),
        ("evopress", {"profile": "absent.json"}, r"--profile: absent\.json does not exist"),
    ],
)
def test_bad_requests(run, tmp_path, recipe, options, message):
    with pytest.raises(ConfigError, match=message):
        export_recipe(run, tmp_path / "out.txt", recipe, **options)
    with pytest.raises(ConfigError, match=r"--out: .* is a folder; a recipe is a file"):
        export_recipe(run, tmp_path, "evopress")
    assert not (tmp_path / "out.txt").exists()
