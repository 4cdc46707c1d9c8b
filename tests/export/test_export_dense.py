"""The dense export, read back by plain safetensors and by transformers."""

import errno
import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.pytorch_utils import Conv1D

import sparsearch.export.dense as dense
from sparsearch.errors import ConfigError, ResourceError
from sparsearch.space import Profile


def bits(tensor):
    return tensor.contiguous().view(torch.int16)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_reloaded_tensors_are_those_given_to_the_bit(pruned, tmp_path, architecture):
    subject = pruned(architecture)
    subject.export(tmp_path / "out")
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    given = {site.module: weight for site, weight in subject.weights}
    original = dict(subject.model.module.named_parameters())
    for name, parameter in reloaded.named_parameters():
        module = name.removesuffix(".weight")
        expected = original[name]
        if module in given:
            expected = given[module]
            if isinstance(reloaded.get_submodule(module), Conv1D):
                expected = expected.T
            expected = expected.masked_fill(expected == 0, 0.0)
        assert parameter.dtype == torch.float16
        assert torch.equal(bits(parameter.detach()), bits(expected.detach().to(torch.float16))), name


def test_zeros_are_positive(pruned, tmp_path):
    subject = pruned("llama")
    assert any(torch.signbit(weight[weight == 0]).any() for _, weight in subject.weights)
    subject.export(tmp_path / "out")
    stored = load_file(tmp_path / "out" / "model.safetensors")
    for site, _ in subject.weights:
        weight = stored[f"{site.module}.weight"]
        assert not torch.signbit(weight[weight == 0]).any()


def test_tied_embeddings_are_stored_once_and_stay_tied(pruned, tmp_path):
    pruned("llama").export(tmp_path / "out")
    assert "lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert reloaded.lm_head.weight is reloaded.model.embed_tokens.weight


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_configuration_is_that_of_the_source(pruned, tmp_path, architecture):
    pruned(architecture).export(tmp_path / "out")
    for name in ("config.json", "generation_config.json"):
        source = json.loads((tmp_path / f"source-{architecture}" / name).read_text())
        assert json.loads((tmp_path / "out" / name).read_text()) == source
    assert source.get("quantization_config") is None


def test_the_folder_holds_profile_config_card_and_tokenizer(pruned, tokenizer, tmp_path):
    subject = pruned("llama")
    subject.export(tmp_path / "out", tokenizer=tokenizer)
    out = tmp_path / "out"
    assert Profile.load(out / "sparsearch" / "profile.json") == subject.profile
    assert (out / "sparsearch" / "config.yaml").read_text() == "seed: 0\n"
    assert (out / "README.md").read_text() == "a card\n"
    assert AutoTokenizer.from_pretrained(out)("word5 word9")["input_ids"] == [5, 9]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_live_model_stays_as_it_was(pruned, tmp_path, architecture):
    subject = pruned(architecture)
    module = subject.model.module
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    config = module.config.to_dict()
    subject.export(tmp_path / "out")
    assert module.config.to_dict() == config
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())


def test_weights_may_come_from_a_function(pruned, tmp_path):
    subject = pruned("llama")
    weights = subject.weights
    subject.export(tmp_path / "first")
    subject.weights = lambda: iter(weights)
    subject.export(tmp_path / "second")
    names = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*.*"))
    assert names
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_a_parameter_kept_in_float32_keeps_its_bits(pruned, tmp_path):
    subject = pruned("llama")
    norm = subject.model.module.model.norm.weight
    norm.fill_(1 + 2**-20)
    subject.export(tmp_path / "out")
    stored = load_file(tmp_path / "out" / "model.safetensors")["model.norm.weight"]
    assert torch.equal(stored, norm)


def test_a_taken_folder_is_refused_and_untouched(pruned, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not an empty folder; choose another folder or delete"):
        pruned("llama").export(out)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_taken(pruned, tmp_path):
    (tmp_path / "out").mkdir()
    pruned("llama").export(tmp_path / "out")
    assert (tmp_path / "out" / "config.json").exists()


def test_a_full_disk_leaves_nothing(pruned, tmp_path, monkeypatch):
    subject = pruned("llama")

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(dense, "_settle", full)
    with pytest.raises(ResourceError, match="No space left on device; free space"):
        subject.export(tmp_path / "parent" / "out")
    assert list((tmp_path / "parent").iterdir()) == []


def test_what_a_killed_export_left_is_cleared(pruned, tmp_path):
    left = tmp_path / ".out.partial"
    left.mkdir()
    (left / "model-00001-of-00009.safetensors").write_bytes(b"half")
    pruned("llama").export(tmp_path / "out")
    assert not left.exists()
    assert not (tmp_path / "out" / "model-00001-of-00009.safetensors").exists()


def test_a_missing_site_is_named(pruned, tmp_path):
    subject = pruned("llama")
    site, _ = subject.weights.pop()
    with pytest.raises(ConfigError, match=f"1 sites of the profile have no weight, first {site.name}"):
        subject.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_weight_of_another_shape_is_named(pruned, tmp_path):
    subject = pruned("llama")
    site, weight = subject.weights[0]
    subject.weights[0] = (site, weight[:1])
    with pytest.raises(ConfigError, match=f"the weight of {site.name}"):
        subject.export(tmp_path / "out")


def test_values_beyond_the_storage_dtype_are_refused(pruned, tmp_path):
    subject = pruned("llama")
    subject.weights[3][1][0, 0] = 1e6
    with pytest.raises(ResourceError, match=subject.weights[3][0].name):
        subject.export(tmp_path / "out")
