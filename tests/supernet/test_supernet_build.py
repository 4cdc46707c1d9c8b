import gc
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from sparsearch.errors import ConflictError, ResourceError
from sparsearch.model.sites import site_weight
from sparsearch.pruning import Statistics, Unstructured, make_pruner
from sparsearch.space import Allocation
from sparsearch.supernet import Mixture, Supernet, Switcher, build_supernet

FAMILIES = ["llama", "gpt2", "opt", "gemma3", "phi3", "gpt_neox", "bert"]


def files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("sites/*.safetensors"))}


class Killed(Exception):
    pass


@pytest.mark.parametrize("family", FAMILIES)
def test_variants_are_those_of_the_pruner_on_whole_model_inputs(family, tiny_model, plan_for, tmp_path):
    """Block-by-block calibration sees exactly what hooks on one ordinary forward of the whole model see."""
    model, plan = plan_for(tiny_model(family), "wanda")
    supernet = build_supernet(model, plan, tmp_path, batch_size=4)
    site = plan.space.sites[-1]
    inputs = []
    module = model.module.get_submodule(site.module)
    handle = module.register_forward_pre_hook(lambda _m, args: inputs.append(args[0]))
    with torch.no_grad():
        for rows in (slice(0, 4), slice(4, 6)):
            model.module(**plan.panel.batch(rows))
    handle.remove()
    statistics = Statistics.empty(site.shape[1], gram=False)
    for part in inputs:
        statistics = statistics.accumulate(part)
    weight = site_weight(model.module, site)
    patterns = [Unstructured(level.removed(site.shape)) for level in plan.space.levels[-1][1:]]
    masks = make_pruner("wanda", {}).prune(weight, statistics, patterns, torch.Generator()).masks
    for level, mask in enumerate(masks, start=1):
        assert torch.equal(supernet.variant(len(plan.space) - 1, level, weight), weight * mask)


@pytest.mark.parametrize("pruner", ["random", "magnitude", "wanda", "sparsegpt", "wanda+refit"])
def test_every_variant_removes_exactly_what_the_space_counts(pruner, tiny_model, plan_for, tmp_path):
    model, plan = plan_for(tiny_model("llama"), pruner)
    supernet = build_supernet(model, plan, tmp_path)
    for index, (site, levels) in enumerate(zip(plan.space.sites, plan.space.levels, strict=True)):
        dense = site_weight(model.module, site)
        for number, level in enumerate(levels[1:], start=1):
            assert int((supernet.variant(index, number, dense) == 0).sum()) == level.removed(site.shape)


def test_n_of_m_levels_keep_n_of_every_m(tiny_model, plan_for, tmp_path):
    model, plan = plan_for(tiny_model("llama"), "sparsegpt", levels=["2:4", "1:4", "4:8"])
    supernet = build_supernet(model, plan, tmp_path)
    for number, level in enumerate(plan.space.levels[0][1:], start=1):
        dense = site_weight(model.module, plan.space.sites[0])
        groups = (supernet.variant(0, number, dense) != 0).view(-1, level.group).sum(dim=1)
        assert (groups == round((1 - level.sparsity) * level.group)).all()


def test_a_build_that_is_stopped_with_several_workers_leaves_none_of_them_running(
    tiny_model, plan_for, tmp_path, recwarn
):
    model, plan = plan_for(tiny_model("llama"), "sparsegpt")

    def report(done, total):
        raise Killed

    with pytest.raises(Killed):
        build_supernet(model, plan, tmp_path, workers=3, report=report)
    gc.collect()
    assert not [str(warning.message) for warning in recwarn if "joblib" in str(warning.filename)]
    build_supernet(model, plan, tmp_path, workers=3)


@pytest.mark.parametrize("propagate", ["dense", "allocation", "mixture"])
def test_a_build_that_is_stopped_at_any_site_ends_with_the_same_bytes(propagate, tiny_model, plan_for, tmp_path):
    model, plan = plan_for(tiny_model("llama"), "sparsegpt")
    allocation = Allocation((2,) * 14)
    shown = {"allocation": allocation, "mixture": Mixture.around(plan.space, "expectation", allocation)}
    plan = replace(plan, propagate=shown.get(propagate))
    build_supernet(model, plan, tmp_path / "whole")
    expected = files(tmp_path / "whole")
    dense = {name: value.clone() for name, value in model.module.state_dict().items()}
    for stop in (1, 5, 7, 13):
        folder = tmp_path / f"stopped{stop}"

        def report(done, total, stop=stop):
            if done == stop:
                raise Killed

        with pytest.raises(Killed):
            build_supernet(model, plan, folder, report=report)
        assert len(files(folder)) == stop
        build_supernet(model, plan, folder)
        assert files(folder) == expected
    assert all(torch.equal(dense[name], value) for name, value in model.module.state_dict().items())


def test_workers_do_not_change_a_byte(tiny_model, plan_for, tmp_path):
    model, plan = plan_for(tiny_model("gpt2"))
    build_supernet(model, plan, tmp_path / "one", workers=1)
    build_supernet(model, plan, tmp_path / "four", workers=4)
    assert files(tmp_path / "one") == files(tmp_path / "four")


def test_propagation_shows_later_blocks_the_pruned_ones(tiny_model, plan_for, tmp_path):
    """The last block's statistics are taken behind the pruned first block: checked against a really pruned model."""
    model, dense_plan = plan_for(tiny_model("llama"), "wanda")
    allocation = Allocation((4,) * len(dense_plan.space))
    _, plan = plan_for(model.module, "wanda", propagate=allocation)
    propagated = build_supernet(model, plan, tmp_path / "propagated")
    build_supernet(model, dense_plan, tmp_path / "dense")
    assert files(tmp_path / "dense")["00000.safetensors"] == files(tmp_path / "propagated")["00000.safetensors"]
    assert files(tmp_path / "dense")["00013.safetensors"] != files(tmp_path / "propagated")["00013.safetensors"]
    first_block = Allocation(tuple(4 if site.block == 0 else 0 for site in plan.space.sites))
    switcher = Switcher(model, propagated)
    switcher.switch(first_block)
    build_supernet(model, dense_plan, tmp_path / "pruned")
    q_proj = next(i for i, site in enumerate(plan.space.sites) if site.block == 1)
    name = f"{q_proj:05d}.safetensors"
    assert files(tmp_path / "pruned")[name] == files(tmp_path / "propagated")[name]


def test_sites_that_fit_no_level_stay_dense(tiny_model, plan_for, tmp_path):
    for pruner in ("wanda", "sparsegpt"):
        model, plan = plan_for(tiny_model("llama"), pruner, ["2:5"])
        supernet = build_supernet(model, plan, tmp_path / pruner)
        assert plan.space.counts.max() == 1
        assert Switcher(model, supernet).switch(plan.space.sparsest()) == 0


def test_output_errors_grow_with_the_level_and_start_at_zero(tiny_model, plan_for, tmp_path):
    model, plan = plan_for(tiny_model("llama"), "sparsegpt")
    for shard in build_supernet(model, plan, tmp_path).shards:
        assert shard.errors[0] == 0 and list(shard.errors) == sorted(shard.errors)


def test_a_folder_of_another_supernet_is_refused_and_left_alone(tiny_model, plan_for, tmp_path):
    model, plan = plan_for(tiny_model("llama"), "wanda")
    build_supernet(model, plan, tmp_path / "supernet")
    before = files(tmp_path / "supernet")
    model, other = plan_for(tiny_model("llama"), "magnitude")
    with pytest.raises(ConflictError, match="another pruner"):
        build_supernet(model, other, tmp_path / "supernet")
    assert files(tmp_path / "supernet") == before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"x")
    with pytest.raises(ConflictError, match="not empty"):
        build_supernet(model, other, tmp_path / "photos")


def test_damaged_shards_are_named_and_rebuilt(tiny_model, plan_for, tmp_path):
    model, plan = plan_for(tiny_model("llama"), "sparsegpt")
    build_supernet(model, plan, tmp_path)
    expected = files(tmp_path)
    path = tmp_path / "sites" / "00003.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ResourceError, match=r"00003.safetensors \(site model.layers.0.self_attn.o_proj\) has"):
        Supernet(tmp_path, plan.space)
    path.write_bytes(expected["00003.safetensors"][:-1] + b"\x7f")
    with pytest.raises(ResourceError, match="checksum"):
        Supernet(tmp_path, plan.space).verify()
    with pytest.raises(ResourceError, match="checksum"):
        Supernet(tmp_path, plan.space).variant(3, 1, site_weight(model.module, plan.space.sites[3]))
    path.unlink()
    build_supernet(model, plan, tmp_path)
    assert files(tmp_path) == expected


def test_nan_activations_name_the_block(tiny_model, plan_for, tmp_path):
    module = tiny_model("llama")
    module.model.layers[1].input_layernorm.weight.data[0] = torch.nan
    model, plan = plan_for(module)
    with pytest.raises(ResourceError, match=r"model\.layers\.1"):
        build_supernet(model, plan, tmp_path)


def test_a_full_disk_leaves_no_half_written_shard(tiny_model, plan_for, tmp_path, monkeypatch):
    model, plan = plan_for(tiny_model("llama"), "wanda")

    def full(tensors, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sparsearch.supernet.store.save_file", full)
    with pytest.raises(ResourceError, match=r"cannot write .*00000.safetensors: No space left"):
        build_supernet(model, plan, tmp_path)
    assert list(tmp_path.glob("sites/*")) == []


@pytest.mark.parametrize("levels", [[0.3, 0.6, 0.9], ["3:4", "2:4", "1:4"]])
def test_shards_hold_tensors_only_and_mask_pruners_take_a_byte_a_weight(levels, tiny_model, plan_for, tmp_path):
    model, plan = plan_for(tiny_model("llama"), "wanda", levels)
    build_supernet(model, plan, tmp_path)
    for index, site in enumerate(plan.space.sites):
        tensors = load_file(tmp_path / "sites" / f"{index:05d}.safetensors")
        assert set(tensors) == {"map"} and tensors["map"].nbytes == site.size
