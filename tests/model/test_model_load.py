import json
import shutil

import pytest
import torch
import transformers
from torch import nn

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.model.load import load_model, load_tokenizer, wrap_model


@pytest.fixture
def checkpoint(tiny_llama_folder, tmp_path):
    """A copy of the tiny checkpoint to damage, and a way to change its configuration."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_llama_folder, folder)

    def change(**fields):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **fields}))
        return str(folder)

    return change


def test_a_checkpoint_computes_in_float32_on_a_cpu_and_remembers_its_dtype(tiny_llama_folder):
    model = load_model(str(tiny_llama_folder), device="cpu")
    assert model.storage_dtype == torch.float16
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert model.device == torch.device("cpu")
    assert not model.module.training and not any(p.requires_grad for p in model.module.parameters())
    assert model.block_paths == ("model.layers.0", "model.layers.1")
    assert model.name == str(tiny_llama_folder)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float64])
def test_an_explicit_dtype_does_not_change_the_storage_dtype(tiny_llama_folder, dtype):
    model = load_model(str(tiny_llama_folder), dtype=dtype)
    assert model.module.dtype == {"bfloat16": torch.bfloat16}.get(dtype, torch.float64)
    assert model.storage_dtype == torch.float16


def test_the_dtype_is_found_where_the_configuration_has_none(checkpoint):
    assert load_model(checkpoint(dtype=None)).storage_dtype == torch.float16


def test_the_weights_are_those_of_the_checkpoint(tiny_llama_folder, tiny_model):
    model = load_model(str(tiny_llama_folder))
    expected = tiny_model("llama").half().float().state_dict()
    for name, tensor in model.module.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("bert", "BertModel"),
        ("vit", "ViTModel"),
        ("gpt2", "GPT2LMHeadModel"),
        ("mixtral", "MixtralForCausalLM"),
    ],
)
def test_the_head_follows_the_checkpoint(tiny_model, tmp_path, family, expected):
    tiny_model(family).save_pretrained(tmp_path)
    assert type(load_model(str(tmp_path)).module).__name__ == expected


def test_a_masked_language_model_loads_as_its_encoder(tmp_path):
    config = transformers.BertConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=99
    )
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    assert type(load_model(str(tmp_path)).module).__name__ == "BertModel"


def test_what_an_encoder_lacks_and_nothing_uses_is_the_same_each_time(tmp_path):
    config = transformers.BertConfig(
        vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, second = (load_model(str(tmp_path)).module.state_dict() for _ in range(2))
    assert "pooler.dense.weight" in first
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_tokenizer_comes_from_the_same_folder(tiny_llama_folder):
    tokenizer = load_tokenizer(str(tiny_llama_folder))
    assert tokenizer.decode(tokenizer("any text")["input_ids"]) == "any text"


def test_a_users_own_module_is_wrapped(tiny_model):
    module = tiny_model("gpt2").bfloat16().train()
    model = wrap_model(module)
    assert model.module is module and not module.training
    assert (model.name, model.storage_dtype) == ("GPT2LMHeadModel", torch.bfloat16)
    assert wrap_model(module, "mine", torch.float16).storage_dtype == torch.float16
    with pytest.raises(ConfigError, match="has no list of transformer blocks"):
        wrap_model(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/folder", "model.name: there is no folder '/no/such/folder'"),
        ("./nothing", "model.name: there is no folder './nothing'"),
        ("a/b/c", "model.name: there is no folder 'a/b/c'"),
        (" ", "model.name: is empty"),
    ],
)
def test_a_missing_path_is_named(name, message):
    for load in (load_model, load_tokenizer):
        with pytest.raises(ConfigError, match=message):
            load(name)


def test_a_folder_without_a_model_and_a_file_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no config.json"):
        load_model(str(tmp_path))
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ConfigError, match="is a file"):
        load_model(str(file))


def test_a_hub_name_without_a_network_is_a_missing_resource():
    with pytest.raises(ResourceError, match=r"model.name: cannot load the configuration of some/model .*network"):
        load_model("some/model")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dtype": "flot16"}, ConfigError, r"model.dtype: .*did you mean 'float16'"),
        ({"device": "abacus"}, ResourceError, r"model.device: abacus cannot be used here"),
        ({"device": "cpu", "device_map": "auto"}, ConfigError, r"model.device: cpu and model.device_map"),
    ],
)
def test_bad_options_are_named(options, error, message):
    with pytest.raises(error, match=message):
        load_model("reference", **options)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"model_type": "zzz"}, ConfigError, "does not accept the configuration"),
        (
            {"model_type": "zzz", "auto_map": {"AutoConfig": "a.B"}},
            ConfigError,
            "set model.trust_remote_code",
        ),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            ConfigError,
            r"are quantised \(gptq\)",
        ),
        ({"num_hidden_layers": 3}, ResourceError, r"lacks 9 weights, among them model.layers.2"),
        (
            {"intermediate_size": 64},
            ResourceError,
            r"weight of .* is \[32, 48\] but config.json asks for \[32, 64\]",
        ),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(checkpoint, fields, error, message):
    with pytest.raises(error, match=message):
        load_model(checkpoint(**fields))


def test_damaged_files_are_refused(checkpoint, tmp_path):
    folder = checkpoint()
    weights = tmp_path / "checkpoint" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ResourceError, match="cannot load the weights") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    weights.unlink()
    with pytest.raises(ResourceError, match="cannot load the weights"):
        load_model(folder)
    (tmp_path / "checkpoint" / "config.json").write_text("{")
    with pytest.raises(ResourceError, match="cannot load the configuration"):
        load_model(folder)
