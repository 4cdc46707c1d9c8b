import pytest

from sparsearch.errors import ConfigError
from sparsearch.export.recipe_evopress_depth import depth_sparsities, depth_text, parse_depth, sub_block
from sparsearch.model.load import wrap_model
from sparsearch.model.site import Site
from sparsearch.model.sites import find_sites
from sparsearch.space import Profile

LLAMA = ["self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"]


def profile(*blocks, kinds=LLAMA, head=None):
    """A profile whose blocks have the given sparsities, one a kind."""
    rows = [
        (f"layers.{block}.{kind}", kind, block, value)
        for block, values in enumerate(blocks)
        for kind, value in zip(kinds, values, strict=True)
    ]
    rows += [] if head is None else [("head", "head", len(blocks), head)]
    names = ("name", "kind", "block", "sparsity")
    sites = [dict(zip(names, row, strict=True)) | {"shape": [4, 4], "level": "?"} for row in rows]
    return Profile(tuple(sites), {}, {})


def test_one_line_a_block_with_a_newline_each():
    text = depth_text(profile((0, 0, 0, 0), (1, 1, 0, 0), (0, 0, 1, 1), (1, 1, 1, 1), head=0))
    assert text == "none\nattn\nmlp\nattn+mlp\n"
    assert parse_depth(text, "f", 4) == [(), ("attn",), ("mlp",), ("attn", "mlp")]


def test_sub_blocks_without_sites_stay():
    assert depth_text(profile((1, 1), (0, 0), kinds=LLAMA[2:])) == "mlp\nnone\n"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (profile((0.5, 0, 0, 0)), r"layers\.0\.self_attn\.q_proj is 50\.00% sparse; depth text can only say"),
        (profile((0, 0, 0, 0), (0, 0, 1, 0)), r"of the mlp of block 1 some layers are dense and some gone"),
        (profile((0, 0, 0, 0), head=1), r"head is 100\.00% sparse; depth text can only say"),
    ],
)
def test_what_depth_text_cannot_say_is_refused(made, message):
    with pytest.raises(ConfigError, match=message):
        depth_text(made)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none\natn\n", r"^f: line 2: found 'atn'; allowed: attn, attn\+mlp, mlp, none \(did you mean 'attn'\?\)"),
        ("none\n\nnone\n", r"^f: line 2: found ''; allowed"),
        ("none\n", "^f: 1 lines, but the model has 2 blocks; give one line a block"),
        ("none\nnone\nmlp", "^f: 3 lines, but the model has 2 blocks"),
    ],
)
def test_bad_lines_are_told_with_their_number(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_depth(text, "f", 2)


def test_sites_of_dropped_sub_blocks_are_gone_and_the_head_is_not():
    sites = [Site(f"b.{block}.{kind}", "", kind, block, (4, 4)) for block in range(2) for kind in LLAMA]
    sites.append(Site("head", "head", "head", 2, (4, 4)))
    assert depth_sparsities(sites, [("attn",), ("attn", "mlp")]) == [1, 1, 0, 0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "qwen3", "gemma2", "phi3", "gpt_neox", "bert"])
def test_attention_and_mlp_of_many_families(tiny_model, family):
    sites = find_sites(wrap_model(tiny_model(family)))
    parts = {site.kind: sub_block(site.kind) for site in sites}
    mlp = {kind for kind, part in parts.items() if part == "mlp"}
    assert mlp == {
        "gpt2": {"mlp.c_fc", "mlp.c_proj"},
        "opt": {"fc1", "fc2"},
        "phi3": {"mlp.gate_up_proj", "mlp.down_proj"},
        "gpt_neox": {"mlp.dense_h_to_4h", "mlp.dense_4h_to_h"},
        "bert": {"intermediate.dense", "output.dense"},
    }.get(family, {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
