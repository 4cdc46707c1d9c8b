from itertools import chain

import pytest
import torch
from toy_blocks import TOYS, make_toy

from sparsearch.model.blockwise import Blockwise
from sparsearch.model.load import wrap_model
from sparsearch.model.segments import find_segments
from sparsearch.model.sites import find_sites

PARTS = {
    "llama": ["self_attn", "mlp"],
    "gpt2": ["attn", "mlp"],
    "opt": ["self_attn", "fc1", "fc2"],
    "gpt_neox": ["attention", "mlp"],
    "mixtral": ["self_attn", "mlp"],
    "gemma3": ["self_attn", "mlp"],
    "bert": ["attention", "intermediate", "output"],
    "vit": ["attention", "mlp"],
}


def segments_of(module, targets=("*",)):
    """(segments, per segment the name of its module, kind of a site to the segments of its sites)."""
    model = wrap_model(module)
    sites = find_sites(model, targets)
    generator = torch.Generator().manual_seed(0)
    batch = {"input_ids": torch.randint(0, 2048, (1, 5), generator=generator)}
    if model.module.__class__.__name__ == "ViTModel":
        batch = {"pixel_values": torch.randn(1, 3, 16, 16, generator=generator)}
    found = find_segments(Blockwise(model), sites, batch)
    names = {part: name for name, part in model.module.named_modules()}
    kinds = {}
    for site, segment in zip(sites, found.sites, strict=True):
        kinds.setdefault(site.kind, []).append(int(segment))
    return found, [names[part] for part in found.modules], kinds


@pytest.mark.parametrize("family", PARTS)
def test_parts_of_transformers_families(family, tiny_model):
    found, names, kinds = segments_of(tiny_model(family))
    parts = PARTS[family]
    count = len(parts)
    blocks = [names[count - 1], names[2 * count - 1]]
    assert names == [name for block in blocks for name in (*(f"{block}.{part}" for part in parts[:-1]), block)]
    assert found.blocks == (0,) * count + (1,) * count + (2,)
    for kind, segments in kinds.items():
        first = parts.index(kind.partition(".")[0])
        assert segments == [first, first + count]


def test_segments_follow_the_order_of_execution():
    _, names, kinds = segments_of(make_toy(TOYS["Plain"]))
    assert names[:3] == ["layers.0.first", "layers.0.second", "layers.0"]
    assert kinds == {"second": [1, 4, 7], "first": [0, 3, 6], "third": [2, 5, 8]}


@pytest.mark.parametrize(
    ("toy", "ends", "uses"),
    [
        ("WritesToOutputs", ["first", "second"], {"first": 0, "second": 1, "third": 2}),
        ("RunsTwice", ["first"], {"first": 0, "second": 1, "third": 1}),
        ("PartWritesToItsInput", ["second"], {"first": 0, "second": 0, "third": 1}),
        ("Nested", ["second"], {"first.own": 0, "second": 0, "third": 1}),
        ("TorchLayer", [], {"self_attn.out_proj": 0, "linear1": 0, "linear2": 0}),
    ],
)
def test_what_cannot_be_stood_in_for_is_no_part(toy, ends, uses):
    _, names, kinds = segments_of(make_toy(TOYS[toy]))
    assert names[: len(ends) + 1] == [*(f"layers.0.{end}" for end in ends), "layers.0"]
    assert {kind: segments[0] for kind, segments in kinds.items()} == uses


@pytest.mark.parametrize("toy", ["WritesToItsInput", "TellsLaterBlocks"])
def test_blocks_that_write_to_their_arguments_cannot_be_left_out(toy):
    found, names, kinds = segments_of(make_toy(TOYS[toy]))
    assert (names, found.blocks) == ([], (3,))
    assert set(chain(*kinds.values())) == {0}


def test_a_block_that_runs_in_two_places_cannot_be_left_out():
    module = make_toy(TOYS["Plain"])
    module.layers[2] = module.layers[0]
    assert segments_of(module)[1] == []


def test_a_weight_in_two_places_belongs_to_the_first():
    module = make_toy(TOYS["Plain"])
    module.layers[1].third.weight = module.layers[0].second.weight
    module.layers[2].first = module.layers[1].first
    _, names, kinds = segments_of(module)
    assert kinds == {"second": [1, 3, 5], "first": [0, 3], "third": [2, 6]}
    assert names[3:6] == ["layers.1.second", "layers.1", "layers.2.second"]


def test_sites_outside_the_blocks_lie_where_they_run():
    kinds = segments_of(make_toy(TOYS["Plain"]), ["*", "front", "behind"])[2]
    assert (kinds["front"], kinds["behind"]) == ([0], [9])


def test_the_head_lies_behind_the_last_segment(tiny_model):
    assert segments_of(tiny_model("llama"), ["*", "lm_head"])[2]["lm_head"] == [4]


def test_entering_takes_the_block_before_and_the_parts_before():
    found, _, _ = segments_of(make_toy(TOYS["Plain"]))
    needed = [list(found.needed(depth)) for depth in range(10)]
    assert needed == [[], [1], [1, 2], [3], [3, 4], [3, 4, 5], [6], [6, 7], [6, 7, 8], [9]]
    assert found.known(0, {}) == {}
    outputs = {3: "block 0", 4: "first"}
    assert found.known(4, outputs) == dict.fromkeys(found.modules[:3], "block 0") | {found.modules[3]: "first"}


@pytest.mark.parametrize("family", ["llama", "opt", "gpt_neox", "bert"])
def test_a_forward_entered_anywhere_gives_the_same_bits(family, tiny_model):
    module = tiny_model(family)
    runner = Blockwise(wrap_model(module))
    batch = {"input_ids": torch.randint(0, 2048, (3, 9), generator=torch.Generator().manual_seed(1))}
    found = find_segments(runner, find_sites(runner.model), batch)
    outputs = {}

    def keeping(depth):
        return lambda output: outputs.update({depth: output})

    watch = {part: keeping(depth) for depth, part in enumerate(found.modules, 1)}
    whole = runner.run(batch, watch=watch).hidden
    for depth in range(len(found.modules) + 1):
        assert torch.equal(runner.run(batch, known=found.known(depth, outputs)).hidden, whole)
