import numpy as np
import pytest
import torch

from sparsearch.model.sites import site_weight
from sparsearch.space import Allocation
from sparsearch.supernet import Switcher, build_supernet, switch


@pytest.mark.parametrize(
    ("family", "storage"), [("llama_tied", torch.float16), ("gpt2", torch.float32), ("opt", torch.bfloat16)]
)
def test_any_sequence_of_switches_gives_the_variants_and_dense_is_restored_bit_exactly(
    family, storage, tiny_model, plan_for, tmp_path
):
    module = tiny_model(family)
    for parameter in module.parameters():
        parameter.data = parameter.data.to(storage).float()
    model, plan = plan_for(module, "sparsegpt", storage=storage)
    supernet = build_supernet(model, plan, tmp_path)
    dense = {name: value.clone() for name, value in module.state_dict().items()}
    switcher = Switcher(model, supernet)
    rng = np.random.default_rng(0)
    for _ in range(5):
        allocation = Allocation.of(rng.integers(0, plan.space.counts))
        switcher.switch(allocation)
        for index, site in enumerate(plan.space.sites):
            expected = switcher.variant(index, allocation.levels[index])
            assert torch.equal(site_weight(module, site), expected.float())
    switcher.restore()
    assert all(torch.equal(dense[name], value) for name, value in module.state_dict().items())


def test_only_changed_sites_are_rewritten(tiny_model, plan_for, tmp_path):
    model, plan = plan_for(tiny_model("llama"), "magnitude")
    switcher = Switcher(model, build_supernet(model, plan, tmp_path))
    first = Allocation((1,) * len(plan.space))
    assert switcher.switch(first) == len(plan.space)
    assert switcher.switch(first.replace({3: 2, 5: 0})) == 2
    assert switcher.switch(first.replace({3: 2, 5: 0})) == 0


def test_after_an_exchange_the_variants_are_those_of_the_other_supernet(tiny_model, plan_for, tmp_path):
    module = tiny_model("llama")
    dense = {name: value.clone() for name, value in module.state_dict().items()}
    model, plan = plan_for(module, "magnitude")
    _, other_plan = plan_for(module, "sparsegpt")
    first, other = build_supernet(model, plan, tmp_path / "a"), build_supernet(model, other_plan, tmp_path / "b")
    switcher = switch(model, first, Allocation((2,) * 14))
    switcher.exchange(other)
    assert all(torch.equal(dense[name], value) for name, value in module.state_dict().items())
    assert switcher.current == plan.space.dense()
    switcher.switch(Allocation((2,) * 14))
    for index, site in enumerate(plan.space.sites):
        assert torch.equal(site_weight(module, site), other.variant(index, 2, dense[f"{site.name}.weight"]))
    switcher.restore()
    assert all(torch.equal(dense[name], value) for name, value in module.state_dict().items())


def test_nothing_but_site_weights_changes(tiny_model, plan_for, tmp_path):
    module = tiny_model("llama_tied")
    model, plan = plan_for(module, "magnitude")
    sites = {f"{site.name}.weight" for site in plan.space.sites}
    before = {name: value.clone() for name, value in module.state_dict().items()}
    switch(model, build_supernet(model, plan, tmp_path), plan.space.sparsest())
    changed = {name for name, value in module.state_dict().items() if not torch.equal(before[name], value)}
    assert changed == sites


def test_the_cache_of_decoded_variants_stays_within_its_bound(tiny_model, plan_for, tmp_path):
    from sparsearch.supernet import Supernet

    model, plan = plan_for(tiny_model("llama"), "sparsegpt")
    build_supernet(model, plan, tmp_path)
    small = Supernet(tmp_path, plan.space, cache_bytes=10_000)
    for index in range(len(plan.space)):
        for level in range(1, 5):
            small.variant(index, level, site_weight(model.module, plan.space.sites[index]))
    assert small.cached_bytes <= 10_000
