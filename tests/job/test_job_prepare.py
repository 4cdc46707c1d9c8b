import json
import re

import pytest
import tiny_jobs
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertModel

from sparsearch.errors import ConfigError, InfeasibleBudgetError, ResourceError
from sparsearch.job.config import parse_config
from sparsearch.job.prepare import check_names, model_space, prepare
from sparsearch.model.load import load_model, wrap_model
from sparsearch.reference import reference_path
from sparsearch.space import Allocation, Profile, level_grid
from sparsearch.supernet import Mixture

VOCABULARY, WIDTH, FFN, BLOCKS = 2048, 32, 48, 2
SITES = BLOCKS * (2 * WIDTH * WIDTH + 2 * WIDTH * WIDTH // 2 + 3 * WIDTH * FFN)
NORMS = (2 * BLOCKS + 1) * WIDTH


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    shape = {"hidden_size": WIDTH, "intermediate_size": FFN, "num_hidden_layers": BLOCKS, "num_attention_heads": 4}
    BertModel(BertConfig(**shape, vocab_size=VOCABULARY, max_position_embeddings=128)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(reference_path()).save_pretrained(folder)
    return folder


def prepared(folder, checkpoint, **changes):
    return prepare(parse_config(tiny_jobs.mapping(folder, checkpoint, **changes)))


def panel(**changes):
    return {"objective": "kl", "panel": tiny_jobs.PANEL | changes}


def test_every_part_fits_the_others_and_nothing_is_written(tmp_path, tiny_llama_folder):
    job = prepared(tmp_path, tiny_llama_folder)
    assert len(job.space) == 14
    assert {name: len(getattr(job.panels, name)) for name in ("calibration", "search", "heldout")} == {
        "calibration": 8,
        "search": 12,
        "heldout": 8,
    }
    assert job.panels.search.length == 31
    assert [objective.name for objective in job.objectives] == ["kl", "perplexity"]
    assert job.warnings == ()
    assert job.searcher().name == "evopress"
    assert job.supernet_folder == tmp_path / "runs" / "supernets" / job.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_costs_are_those_of_the_whole_model(tiny_llama_folder):
    space = model_space(load_model(str(tiny_llama_folder)), level_grid([0.5]))
    everything = SITES + NORMS + 2 * VOCABULARY * WIDTH
    assert space.prunable == SITES
    assert space.cost("params", space.dense()) == everything
    assert space.cost("params", space.sparsest()) == everything - SITES / 2
    assert space.cost("bytes", space.dense()) == 2 * everything
    # Embeddings are looked up; the head multiplies.
    assert space.cost("flops", space.dense()) == 2 * (SITES + VOCABULARY * WIDTH)


def test_tied_embeddings_count_once_as_parameters_and_as_a_head(tiny_model):
    space = model_space(wrap_model(tiny_model("llama_tied")), level_grid([0.5]))
    assert space.cost("params", space.dense()) == SITES + NORMS + VOCABULARY * WIDTH
    assert space.cost("flops", space.dense()) == 2 * (SITES + VOCABULARY * WIDTH)


def test_targets_and_ignore_choose_the_sites(tmp_path, tiny_llama_folder):
    space = {"levels": [0.5], "pruner": "wanda", "targets": ["*mlp*"], "ignore": ["*down_proj"]}
    job = prepared(tmp_path, tiny_llama_folder, space=space)
    assert {site.name.rpartition(".")[2] for site in job.space.sites} == {"gate_proj", "up_proj"}
    assert re.search(r"\d+% of the blocks' weights are in no site and stay dense", job.warnings[0])


def test_sites_that_no_level_fits_are_told(tmp_path, tiny_llama_folder):
    job = prepared(
        tmp_path, tiny_llama_folder, space={"levels": ["16:32"], "pruner": "wanda"}, budget={"sparsity": 0.1}
    )
    assert re.search(r"2 sites fit none of the levels and stay dense, the first is .*down_proj", job.warnings[0])


def test_jobs_share_a_supernet_unless_it_would_be_another(tmp_path, tiny_llama_folder):
    one = prepared(tmp_path, tiny_llama_folder).fingerprint
    same = {"seed": 5, "budget": {"sparsity": 0.3}, "searcher": "random", "objective": panel(search=5, heldout=4)}
    assert prepared(tmp_path, tiny_llama_folder, **same).fingerprint == one
    for changes in (
        {"space": {"levels": [0.25, 0.5], "pruner": "wanda"}},
        {"space": {"levels": [0.25, 0.5, 0.75], "pruner": "magnitude"}},
        {"space": {"levels": [0.25, 0.5, 0.75], "pruner": "wanda", "propagation": "uniform"}},
        {"space": {"levels": [0.25, 0.5, 0.75], "pruner": "wanda", "accumulation": "uniform"}},
        {"objective": panel(calibration=7)},
        {"objective": panel(seed=1)},
    ):
        assert prepared(tmp_path, tiny_llama_folder, **changes).fingerprint != one


def test_length_defaults_to_what_the_model_takes(tmp_path, tiny_llama_folder):
    objective = {"objective": "kl", "panel": {"calibration": 2, "search": 2, "heldout": 2}}
    assert prepared(tmp_path, tiny_llama_folder, objective=objective).panels.search.length == 128


def test_an_encoder_is_measured_by_its_hidden_states_alone(tmp_path, encoder_folder):
    with pytest.raises(
        ConfigError, match=r"objective: kl needs a language-modelling head.*lacks; allowed for it: hidden"
    ):
        prepared(tmp_path, encoder_folder)
    with pytest.raises(ConfigError, match=r"objective: trace needs a language-modelling head"):
        trace = {"objective": "trace", "panel": tiny_jobs.PANEL}
        prepared(tmp_path, encoder_folder, objective=trace)
    job = prepared(tmp_path, encoder_folder, objective={"objective": "hidden", "panel": tiny_jobs.PANEL})
    assert [objective.name for objective in job.objectives] == ["hidden"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "./nowhere"}, ConfigError, r"model\.name: there is no folder .*nowhere"),
        ({"objective": panel(length=129)}, ConfigError, r"panel\.length: 129 tokens, but .* takes at most 128"),
        ({"objective": panel(search=5000)}, ConfigError, r"panel: 5008 sequences of 31 tokens .* holds \d+ "),
        ({"space": {"levels": [0.5], "pruner": "wandda"}}, ConfigError, r"space\.pruner: .*did you mean 'wanda'"),
        ({"space": {"levels": [0.5], "pruner": {"name": "wanda", "x": 1}}}, ConfigError, r"space\.pruner: .*x"),
        ({"space": {"levels": [0.5], "targets": ["*nothing*"]}}, ConfigError, r"space\.targets"),
        (
            {"space": {"levels": [0.5], "pruner": "magnitude", "accumulation": "expectation"}},
            ConfigError,
            r"space\.accumulation: magnitude looks at no inputs, .*use space\.pruner: sparsegpt",
        ),
        ({"searcher": "evopres"}, ConfigError, r"searcher\.name: 'evopres'.*did you mean 'evopress'"),
        ({"searcher": {"name": "evopress", "offsprings": 3}}, ConfigError, r"searcher\.offsprings: .*'offspring'"),
        (
            {"searcher": {"name": "knapsack", "curves": "layer_error"}},
            ConfigError,
            r"knapsack with curves: layer_error",
        ),
        ({"searcher": "layer_error"}, ConfigError, r"searcher\.name: layer_error needs .*wanda does not measure"),
        ({"budget": {"sparsity": 0.9}}, InfeasibleBudgetError, r"0\.9.*0\.75"),
        ({"budget": {"bytes": "1KiB"}}, InfeasibleBudgetError, r"bytes"),
        ({"data": {"files": ["missing.txt"]}}, ConfigError, r"data\.files: .*missing\.txt does not exist"),
    ],
)
def test_what_does_not_fit_is_told_before_any_work(tmp_path, tiny_llama_folder, changes, error, message):
    with pytest.raises(error, match=message) as caught:
        prepared(tmp_path, tiny_llama_folder, **changes)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_nan_in_the_weights_names_the_weight(tmp_path, tiny_llama_folder):
    folder = tmp_path / "broken"
    folder.mkdir()
    for path in tiny_llama_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ResourceError, match=r"model\.layers\.1\.mlp\.up_proj.*NaN"):
        prepared(tmp_path, folder)


def test_names_are_checked_without_loading_anything(tmp_path):
    check_names(parse_config(tiny_jobs.mapping(tmp_path, "no/such-model")))
    with pytest.raises(ConfigError, match=r"searcher\.name"):
        check_names(parse_config(tiny_jobs.mapping(tmp_path, "no/such-model", searcher="none")))


def test_what_accumulates_is_a_mean_over_all_levels_or_around_what_propagation_names(tmp_path, tiny_llama_folder):
    space = {"levels": [step / 20 for step in range(1, 20)], "pruner": "wanda", "accumulation": "expectation"}
    job = prepared(tmp_path, tiny_llama_folder, space=space)
    assert job.build_plan.propagate == Mixture.around(job.space, "expectation", None)
    assert job.build_plan.propagate.window.levels == (tuple(range(20)),) * 14
    job = prepared(tmp_path, tiny_llama_folder, space=space | {"propagation": "uniform", "accumulation": "uniform"})
    assert job.build_plan.propagate.weighting == "uniform"
    assert job.build_plan.propagate.window.levels == (tuple(range(6, 15)),) * 14
    allocation = Allocation(tuple(range(1, 15)))
    profile = tmp_path / "found.json"
    Profile.of(job.space, allocation).save(profile)
    space |= {"propagation": "allocation", "profile": str(profile)}
    job = prepared(tmp_path, tiny_llama_folder, space=space)
    assert job.build_plan.propagate == Mixture.around(job.space, "expectation", allocation)


def test_propagation_of_a_profile_needs_one_of_the_same_space(tmp_path, tiny_llama_folder):
    profile = tmp_path / "profile.json"
    space = {"levels": [0.5], "pruner": "wanda", "propagation": "allocation", "profile": str(profile)}
    with pytest.raises(
        ConfigError, match=r"space\.profile: .*profile\.json does not exist; give the path of a profile"
    ):
        prepared(tmp_path, tiny_llama_folder, space=space)
    profile.write_text(json.dumps({"format": "other"}))
    with pytest.raises(ConfigError, match=r"profile\.json: format is 'other'"):
        prepared(tmp_path, tiny_llama_folder, space=space)
