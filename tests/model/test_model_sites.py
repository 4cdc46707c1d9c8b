import pytest
import torch
from torch import nn

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.model.load import load_model, wrap_model
from sparsearch.model.sites import (
    check_finite,
    find_sites,
    model_fingerprint,
    site_weight,
    uncovered_fraction,
)

LLAMA = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
LLAMA += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
KINDS = {
    "llama": LLAMA,
    "llama_tied": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "gemma2": LLAMA,
    "gemma3": LLAMA,
    "gpt2": ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"],
    "opt": ["self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj", "fc1", "fc2"],
    "phi3": ["self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"],
    "gpt_neox": ["attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"],
    "mixtral": LLAMA[:4],
}


@pytest.fixture
def model(tiny_model):
    return lambda family: wrap_model(tiny_model(family))


@pytest.mark.parametrize("family", [*KINDS, "bert", "vit"])
def test_every_family_has_the_linears_of_its_blocks(model, family):
    found = model(family)
    sites = find_sites(found)
    assert len(sites) % 2 == 0
    first, second = sites[: len(sites) // 2], sites[len(sites) // 2 :]
    assert [(s.kind, s.shape) for s in first] == [(s.kind, s.shape) for s in second]
    assert {s.block for s in first} == {0} and {s.block for s in second} == {1}
    assert sorted(s.kind for s in first) == sorted(KINDS.get(family, [s.kind for s in first]))
    for site in sites:
        assert site.name == site.module == f"{found.block_paths[site.block]}.{site.kind}"
        assert site_weight(found.module, site).shape == site.shape


@pytest.mark.parametrize(("family", "pattern"), [("gpt2", "mlp.c_fc"), ("llama", "mlp.up_proj")])
def test_site_weight_is_an_out_in_view(model, family, pattern):
    found = model(family)
    site = find_sites(found, [pattern])[0]
    linear = found.module.get_submodule(site.module)
    inputs = torch.randn(5, site.shape[1])
    new = torch.randn(site.shape)
    site_weight(found.module, site).copy_(new)
    bias = linear.bias if linear.bias is not None else 0
    torch.testing.assert_close(linear(inputs), inputs @ new.T + bias)


def test_targets_and_ignore_are_globs_over_names_and_kinds(model):
    found = model("llama")
    assert [s.kind for s in find_sites(found, ["mlp.*"])] == LLAMA[4:] * 2
    assert [s.kind for s in find_sites(found, ["model.layers.1.*"], ["self_attn.q_proj"])] == LLAMA[1:]
    assert [s.block for s in find_sites(found, ["self_attn.q_proj"])] == [0, 1]
    reordered = find_sites(found, ["mlp.down_proj", "self_attn.q_proj"])
    assert [s.kind for s in reordered] == ["self_attn.q_proj", "mlp.down_proj"] * 2


def test_the_head_is_a_site_only_when_named_exactly(model):
    found = model("llama")
    assert "lm_head" not in {s.name for s in find_sites(found, ["*"])}
    head = find_sites(found, ["*", "lm_head"])[-1]
    assert (head.name, head.block, head.kind, head.shape) == ("lm_head", 2, "lm_head", (2048, 32))
    with pytest.raises(ConfigError, match=r"targets: 'lm_\*' matches no linear"):
        find_sites(found, ["lm_*"])
    assert len(find_sites(found, ["*"], ["lm_head"])) == 14


@pytest.mark.parametrize("family", ["llama_tied", "gpt2", "gemma2"])
def test_a_head_tied_to_the_embeddings_is_refused(model, family):
    with pytest.raises(ConfigError, match="lm_head is tied to the embeddings"):
        find_sites(model(family), ["*", "lm_head"])


@pytest.mark.parametrize(
    ("targets", "ignore", "message"),
    [
        (
            ["self_attn.q_prj"],
            [],
            r"targets: .* allowed: lm_head, mlp.down_proj.*did you mean 'self_attn.q_proj'",
        ),
        (["model.layers.1.mlp.upproj"], [], r"targets: .*did you mean 'model.layers.1.mlp.up_proj'"),
        (["*"], ["mlp.gate"], r"ignore: 'mlp.gate' matches no linear.*did you mean 'mlp.gate_proj'"),
        (["mlp.*"], ["mlp.*"], r"ignore: \['mlp.\*'\] leaves no site"),
        (["model.embed_tokens"], [], r"matches no linear layer"),
        (["model.norm"], [], r"matches no linear layer"),
    ],
)
def test_patterns_that_select_nothing_say_what_exists(model, targets, ignore, message):
    with pytest.raises(ConfigError, match=message):
        find_sites(model("llama"), targets, ignore)


def test_a_shared_weight_is_one_site_under_its_first_name(model):
    found = model("llama")
    layers = found.module.model.layers
    layers[1].mlp.up_proj.weight = layers[0].mlp.up_proj.weight
    layers[1].self_attn = layers[0].self_attn
    names = [s.name for s in find_sites(found)]
    assert len(names) == 14 - 5
    assert "model.layers.0.mlp.up_proj" in names and "model.layers.1.mlp.up_proj" not in names
    assert uncovered_fraction(found, find_sites(found)) == 0


def test_linear_subclasses_count_and_other_matrices_do_not(model):
    class Scaled(nn.Linear):
        pass

    found = model("llama")
    found.module.model.layers[0].mlp.up_proj = Scaled(32, 48)
    found.module.model.layers[0].extra = nn.Embedding(4, 32)
    assert len(find_sites(found)) == 14


def test_uncovered_fraction_counts_fused_experts(model):
    found = model("mixtral")
    block = found.blocks[0]
    linear = sum(m.weight.numel() for m in block.modules() if isinstance(m, nn.Linear))
    matrices = sum(p.numel() for p in block.parameters() if p.dim() > 1)
    assert uncovered_fraction(found, find_sites(found)) == pytest.approx(1 - linear / matrices)
    assert uncovered_fraction(found, find_sites(found)) > 0.8
    dense = model("gpt2")
    assert uncovered_fraction(dense, find_sites(dense)) == 0
    assert uncovered_fraction(dense, []) == 1


def test_the_fingerprint_follows_content_only(model, tiny_model):
    assert model_fingerprint(model("llama")) == model_fingerprint(model("llama"))
    reference = model_fingerprint(model("llama"))
    changed = model("llama")
    weight = changed.module.model.norm.weight
    weight[3] = torch.nextafter(weight[3], torch.tensor(9.0))
    assert model_fingerprint(changed) != reference
    weight[3] = 1.0
    assert model_fingerprint(changed) == reference
    assert model_fingerprint(wrap_model(tiny_model("llama"), storage_dtype=torch.float16)) != reference
    assert model_fingerprint(model("qwen2")) != reference


def test_the_fingerprint_does_not_depend_on_the_compute_dtype(tiny_llama_folder):
    half = load_model(str(tiny_llama_folder), dtype="float16")
    single = load_model(str(tiny_llama_folder), dtype="float32")
    assert half.module.dtype != single.module.dtype
    assert model_fingerprint(half) == model_fingerprint(single)


def test_the_fingerprint_sees_large_parameters_in_parts(model, monkeypatch):
    whole = model_fingerprint(model("gpt2"))
    monkeypatch.setattr("sparsearch.model.sites.HASHED_AT_ONCE", 1000)
    assert model_fingerprint(model("gpt2")) == whole


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_damaged_weights_are_named(model, value):
    found = model("llama")
    check_finite(found)
    found.module.model.layers[1].mlp.down_proj.weight[2, 3] = value
    with pytest.raises(ResourceError, match=r"model.layers.1.mlp.down_proj.weight .* holds 1 NaN or Inf"):
        check_finite(found)
