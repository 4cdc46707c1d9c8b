"""Backends by measured times: tables that are written by hand, and runtimes that are packed by them."""

import pytest
import torch
from measured import density_of, table_of

from sparsearch.errors import ConfigError
from sparsearch.export.runtime import export_runtime
from sparsearch.hardware import native
from sparsearch.hardware.cells import Cell
from sparsearch.hardware.kernels import BACKENDS
from sparsearch.hardware.table import Table
from sparsearch.model.load import wrap_model
from sparsearch.model.sites import find_sites, site_weight
from sparsearch.runtime import PackedLinear, load
from sparsearch.runtime.choice import fastest_forms
from sparsearch.space import Profile
from sparsearch.space.level import level_grid

DENSE, HALF, MOST = level_grid([0.5, 0.9])
NAMES = ("dense", "torch_csr", "csr16", "bitmask_bf16", "bitmask_int8")
MICROSECONDS = {
    (1, "dense"): (4, 9, 9, 5, 1), (1, "0.5"): (4, 8, 6, 3, 1), (1, "0.9"): (4, 1, 2, 3, 1),
    (16, "dense"): (9, 10, 10, 9.5, 1), (16, "0.5"): (9, 8, 6, 7, 1), (16, "0.9"): (9, 8, 7, 6, 1),
}  # fmt: skip
"""Of the backends in `NAMES`, by tokens and level. The last one rounds bfloat16 and is out of the competition."""

CHOSEN = {1: ("dense", "bitmask_bf16", "torch_csr"), 16: ("dense", "csr16", "bitmask_bf16")}


def by_hand(shapes, share=4):
    """A table in which every packed weight takes `share` bytes a weight."""
    return Table(table_of(()).fingerprint, 5, tuple(
        Cell(name, shape, tokens, density_of(shape, label), 1e-6 * taken, label=label,
             bytes=share * shape[0] * shape[1])
        for shape in sorted(shapes)
        for (tokens, label), row in MICROSECONDS.items()
        for name, taken in zip(NAMES, row, strict=True)
    ))  # fmt: skip


@pytest.fixture
def model(tiny_model):
    return wrap_model(tiny_model("llama").to(torch.bfloat16).float(), "llama", torch.bfloat16)


@pytest.fixture
def levels(model):
    """Dense, half and 90 % in turn."""
    return {site: (DENSE, HALF, MOST)[number % 3] for number, site in enumerate(find_sites(model))}


def export(model, levels, out, forms):
    generator, weights, sites = torch.Generator().manual_seed(0), [], []
    for site, level in levels.items():
        weight = site_weight(model.module, site).contiguous().clone()
        weight.view(-1)[torch.randperm(site.size, generator=generator)[: level.removed(site.shape)]] = 0
        site_weight(model.module, site).copy_(weight)
        weights.append((site, weight))
        sites.append({
            "name": site.name, "kind": site.kind, "block": site.block, "shape": list(site.shape),
            "level": level.label, "sparsity": level.removed(site.shape) / site.size,
        })  # fmt: skip
    profile = Profile(tuple(sites), {"sparsity": "0.5"}, {})
    export_runtime(model, weights, out, profile=profile, card="", config_yaml="", forms=forms)


def test_the_fastest_of_a_table_is_chosen_for_the_tokens_asked_for(model, levels):
    table = by_hand({site.shape for site in levels})
    for tokens, wanted in CHOSEN.items():
        found = fastest_forms(levels, table, tokens, "bfloat16")
        assert {name: [(backend.name, most) for backend, most in forms] for name, forms in found.items()} == {
            site.name: [(wanted[number % 3], None)] for number, site in enumerate(levels)
        }


def test_a_kernel_that_rounds_is_left_out_but_where_the_checkpoint_is_no_finer(model, levels):
    table = by_hand({site.shape for site in levels})
    names = {
        storage: {backend.name for ((backend, _),) in fastest_forms(levels, table, 1, storage).values()}
        for storage in ("bfloat16", "float32")
    }
    assert names == {"bfloat16": {"dense", "bitmask_bf16", "torch_csr"}, "float32": {"dense", "torch_csr"}}


def test_what_was_not_measured_is_refused_by_name(model, levels):
    shapes = {site.shape for site in levels}
    with pytest.raises(ConfigError, match=r"tokens: 4 were not measured for the shape .*allowed: 1, 16"):
        fastest_forms(levels, by_hand(shapes), 4, "bfloat16")
    with pytest.raises(ConfigError, match=r"the shape 48 x 32 of site .* was not measured; measured: 16 x 32"):
        fastest_forms(levels, by_hand({(32, 48)} | shapes - {(48, 32)}), 1, "bfloat16")


SECOND = {"dense": None, "0.5": "csr16", "0.9": "bitmask_bf16"}
"""What is faster than the first form of one token at 16, and by 10 %."""


def test_a_second_form_takes_over_where_both_are_small(model, levels):
    shapes = {site.shape for site in levels}
    one, two = (fastest_forms(levels, by_hand(shapes, share), 1, "bfloat16") for share in (0.51, 0.5))
    for site, level in levels.items():
        assert len(one[site.name]) == 1 and two[site.name][0][0] is one[site.name][0][0]
        rest = [] if SECOND[level.label] is None else [(BACKENDS[SECOND[level.label]], None)]
        assert list(two[site.name][1:]) == rest
        assert two[site.name][0][1] == (4 if rest else None)  # between 1 and 16
    assert fastest_forms(levels, by_hand(shapes, 0.5), 1, "bfloat16", one=True) == one
    assert all(len(forms) == 1 for forms in fastest_forms(levels, by_hand(shapes, 0.5), 16, "bfloat16").values())


def test_a_second_form_begins_where_it_gains_from_there_on(model, levels):
    """At 4 tokens bit masks win again, at 64 the gain is too small to tell from noise."""
    (site, *_), level = levels, HALF
    rows = {1: (3, 9), 4: (5, 7), 16: (9, 5), 64: (9, 5)}

    def found(rows):
        cells = [
            Cell(name, site.shape, tokens, density_of(site.shape, "0.5"), 1e-6 * taken, label="0.5", bytes=8)
            for tokens, row in rows.items()
            for name, taken in zip(("bitmask_bf16", "csr16"), row, strict=True)
        ]
        table = Table(table_of(()).fingerprint, 5, tuple(cells))
        return [(b.name, most) for b, most in fastest_forms({site: level}, table, 1, "bfloat16")[site.name]]

    assert found(rows) == [("bitmask_bf16", 8), ("csr16", None)]
    assert found(rows | {4: (9, 5)}) == [("bitmask_bf16", 2), ("csr16", None)]
    assert found(rows | {64: (9, 8.5)}) == [("bitmask_bf16", None)]


@pytest.mark.parametrize("share", [4, 0.5])
@pytest.mark.parametrize("built", [True, False])
def test_a_runtime_holds_what_was_chosen_and_opens_without_the_table(
    model, levels, tmp_path, monkeypatch, built, share
):
    if built and native.unavailable():
        pytest.skip(native.unavailable())
    forms = fastest_forms(levels, by_hand({site.shape for site in levels}, share), 1, "bfloat16")
    export(model, levels, tmp_path / "out", forms)
    if built:
        module = load(tmp_path / "out")
    else:
        monkeypatch.setattr(native, "unavailable", lambda: "not built here")
        with pytest.warns(RuntimeWarning, match=r"^\d+ of 15 weights .*bitmask_bf16: not built here.*run dense"):
            module = load(tmp_path / "out")
    for site in levels:
        held = [(form.backend.name, form.most_tokens) for form in module.get_submodule(site.module).forms]
        wanted = [(backend.name if built or not backend.unavailable() else "dense", most)
                  for backend, most in forms[site.name]]  # fmt: skip
        assert held == (wanted[-1:] if {name for name, _ in wanted} == {"dense"} else wanted)
    for tokens in (1, 17):
        ids = torch.arange(tokens)[None]
        with torch.no_grad():
            wanted, found = model.module(input_ids=ids).logits, module(input_ids=ids).logits
        assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max() + 1e-6


def test_sites_without_a_choice_go_to_their_smallest_form(model, levels, tmp_path):
    first, *others = levels
    export(model, levels, tmp_path / "some", {first.name: ((BACKENDS["torch_csr"], None),)})
    export(model, levels, tmp_path / "none", None)
    some, none = (load(tmp_path / name) for name in ("some", "none"))
    assert some.get_submodule(first.module).forms[0].backend.name == "torch_csr"
    for site in others:
        own, plain = (module.get_submodule(site.module) for module in (some, none))
        assert isinstance(own, PackedLinear) and own.forms[0].backend is plain.forms[0].backend
        assert own.packed_bytes == plain.packed_bytes
