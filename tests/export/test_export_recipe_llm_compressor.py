import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoTokenizer

from sparsearch.errors import ConfigError
from sparsearch.export.recipe_llm_compressor import MODIFIERS, SPARSEGPT, llm_compressor_recipe
from sparsearch.model.load import load_model
from sparsearch.model.sites import find_sites
from sparsearch.space import Allocation, Profile, level_grid, linear_space

GRID = ["0.25", "0.5", "2:4", "0.75", "1:4", "1"]


@pytest.fixture(scope="module")
def model(tiny_llama_folder):
    return load_model(str(tiny_llama_folder), device="cpu")


@pytest.fixture(scope="module")
def modules(model):
    return [name for name, _ in model.module.named_modules()]


def profile_of(model, levels, targets=("*",)):
    """The profile whose sites take `levels` (labels) in turn."""
    space = linear_space(find_sites(model, targets), level_grid(GRID), itemsize=2)
    labels = ["dense", *GRID]
    indices = [labels.index(levels[number % len(levels)]) for number in range(len(space))]
    return Profile.of(space, Allocation.of(indices))


def as_the_library_reads_it(text):
    """(type, arguments) of each modifier: `Recipe.from_dict` of llm-compressor 0.14, the constructors aside."""
    found = []
    for stage_key, stage in yaml.safe_load(text).items():
        if not (stage_key.endswith("_stage") and isinstance(stage, dict)):
            continue
        for group_key, group in stage.items():
            if group_key.endswith("_modifiers") and isinstance(group, dict):
                found += group.items()
    return found


def as_the_library_applies_it(text, module):
    """Module name to (sparsity, mask structure): the zip of the list with `named_modules()`, targets by exact name."""
    applied = {}
    for _, arguments in as_the_library_reads_it(text):
        matched = [name for name, _ in module.named_modules() if name in arguments["targets"]]
        assert len(matched) == len(arguments["sparsity"]), "the library would raise"
        for name, sparsity in zip(matched, arguments["sparsity"], strict=True):
            assert name not in applied
            applied[name] = sparsity, arguments["mask_structure"]
    return applied


def test_every_layer_gets_its_own_sparsity_and_dense_ones_are_left_out(model, modules):
    profile = profile_of(model, ["dense", "0.25", "0.75", "0.5", "0.25"])
    # The order of the profile's sites plays no part.
    shuffled = Profile(profile.sites[::-1], {}, {})
    text = llm_compressor_recipe(shuffled, modules)
    wanted = {site["name"]: (site["sparsity"], "0:0") for site in profile.sites if site["sparsity"]}
    assert as_the_library_applies_it(text, model.module) == wanted
    assert len(wanted) < len(profile.sites)
    assert text == llm_compressor_recipe(profile, modules)


def test_the_form_avoids_what_the_library_gets_wrong(model, modules):
    content = yaml.safe_load(llm_compressor_recipe(profile_of(model, GRID), modules))
    assert list(content) == ["sparsity_stage"]
    for _, arguments in as_the_library_reads_it(yaml.safe_dump(content)):
        assert arguments.keys() == {"sparsity", "mask_structure", "targets"}
        assert isinstance(arguments["mask_structure"], str)
        assert all(type(value) is float for value in arguments["sparsity"])


def test_patterns_have_groups_of_their_own_and_count_what_goes(model, modules):
    profile = profile_of(model, GRID)
    applied = as_the_library_applies_it(llm_compressor_recipe(profile, modules), model.module)
    structures = {site["level"]: applied[site["name"]][1] for site in profile.sites}
    assert structures == {"0.25": "0:0", "0.5": "0:0", "0.75": "0:0", "2:4": "2:4", "1:4": "3:4", "1": "1:1"}


def test_the_head_outside_the_blocks_comes_last(model, modules):
    profile = profile_of(model, ["0.5", "0.25"], targets=("*q_proj", "lm_head"))
    applied = as_the_library_applies_it(llm_compressor_recipe(profile, modules), model.module)
    assert applied["lm_head"] == (0.5, "0:0")


def test_profiles_of_another_model_and_dense_ones_are_refused(model, modules):
    profile = profile_of(model, ["0.5"])
    with pytest.raises(ConfigError, match=r"the model has no module model\.layers\.0\.self_attn\.q_proj; give"):
        llm_compressor_recipe(profile, ["", "other"])
    with pytest.raises(ConfigError, match="every layer is dense; llm-compressor has nothing to do"):
        llm_compressor_recipe(profile_of(model, ["dense"]), modules)


@pytest.mark.parametrize("modifier", MODIFIERS.values())
def test_the_library_itself_prunes_every_layer_as_the_profile_says(
    model, modules, modifier, tiny_llama_folder, tmp_path
):
    oneshot = pytest.importorskip("llmcompressor").oneshot
    from datasets import Dataset

    profile = profile_of(model, ["dense", *GRID, "0.75", "0.25"])
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe.write_text(llm_compressor_recipe(profile, modules, modifier))
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 2048, (16, 64), generator=generator).tolist()
    oneshot(
        model=str(tiny_llama_folder),
        processor=AutoTokenizer.from_pretrained(tiny_llama_folder),
        dataset=Dataset.from_dict({"input_ids": rows, "attention_mask": [[1] * 64] * 16}),
        recipe=str(recipe),
        output_dir=str(out),
        num_calibration_samples=16,
        max_seq_length=64,
        precision="float32",
    )
    weights = load_file(out / "model.safetensors")
    for site in profile.sites:
        weight = weights[f"{site['name']}.weight"]
        zeros = (weight == 0).float().mean().item()
        # Its SparseGPT prunes one weight more in each block of 128 columns.
        extra = 1 / min(weight.numel(), weight.shape[0] * 128) if modifier == SPARSEGPT else 0
        assert zeros == pytest.approx(site["sparsity"], abs=extra + 1e-6), (site["name"], site["level"])
        if ":" in site["level"]:
            keep, group = map(int, site["level"].split(":"))
            assert ((weight.reshape(-1, group) != 0).sum(dim=1) == keep).all()
