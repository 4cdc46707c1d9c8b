import pytest
import torch
from torch import nn

from sparsearch.errors import ConfigError
from sparsearch.model.blocks import find_blocks

PATHS = {
    "llama": "model.layers",
    "gpt2": "transformer.h",
    "opt": "model.decoder.layers",
    "qwen2": "model.layers",
    "qwen3": "model.layers",
    "gemma2": "model.layers",
    "gemma3": "model.layers",
    "phi3": "model.layers",
    "gpt_neox": "gpt_neox.layers",
    "mixtral": "model.layers",
    "bert": "encoder.layer",
    "vit": "layers",
}


def block(width=8, experts=0):
    parts = {"attention": nn.Linear(width, width), "norm": nn.LayerNorm(width)}
    if experts:
        parts["experts"] = nn.ModuleList(nn.Sequential(nn.Linear(width, 4 * width)) for _ in range(experts))
    return nn.ModuleDict(parts)


@pytest.mark.parametrize("family", PATHS)
def test_blocks_of_transformers_families(tiny_model, family):
    module = tiny_model(family)
    paths, blocks = find_blocks(module)
    assert paths == (f"{PATHS[family]}.0", f"{PATHS[family]}.1")
    assert all(module.get_submodule(path) is found for path, found in zip(paths, blocks, strict=True))


def test_expert_lists_inside_blocks_are_not_blocks():
    module = nn.Module()
    module.layers = nn.ModuleList(block(experts=16) for _ in range(3))
    assert find_blocks(module)[0] == ("layers.0", "layers.1", "layers.2")


def test_of_two_towers_the_larger_has_the_blocks():
    module = nn.Module()
    module.vision = nn.ModuleList(block(4) for _ in range(6))
    module.language = nn.ModuleList(block(32) for _ in range(2))
    assert find_blocks(module)[0] == ("language.0", "language.1")


def test_lists_of_bare_linears_and_of_norms_are_no_blocks():
    module = nn.Module()
    module.heads = nn.ModuleList(nn.Linear(64, 64) for _ in range(8))
    module.norms = nn.ModuleList(nn.LayerNorm(64) for _ in range(8))
    module.layers = nn.ModuleList([block()])
    assert find_blocks(module)[0] == ("layers.0",)


def test_a_bare_list_is_its_own_root():
    assert find_blocks(nn.ModuleList([block(), block()]))[0] == ("0", "1")


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ConfigError, match=r"Sequential has no list of transformer blocks"):
        find_blocks(nn.Sequential(nn.Linear(2, 2), nn.ModuleList([nn.Conv2d(1, 1, 1)])))


def test_blocks_need_no_memory(tiny_model):
    module = tiny_model("llama").to(torch.device("meta"))
    assert len(find_blocks(module)[0]) == 2
