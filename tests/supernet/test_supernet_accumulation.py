import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsearch.files import digest
from sparsearch.model.sites import site_weight
from sparsearch.pruning import make_pruner
from sparsearch.space import Allocation
from sparsearch.space.window import Window
from sparsearch.supernet import Mixture, build_supernet
from sparsearch.supernet.accumulation import mean_weight, shares
from sparsearch.supernet.store import read_manifest
from sparsearch.testing import quadratic_problem

EIGHTHS = quadratic_problem(levels=[step / 8 for step in range(1, 9)], blocks=1).problem.space


class Recording:
    """A pruner that remembers the statistics of every site, in the order of the sites."""

    def __init__(self, pruner):
        self.pruner, self.seen = pruner, []

    def __getattr__(self, name):
        return getattr(self.pruner, name)

    def prune(self, weight, statistics, patterns, generator):
        self.seen.append(statistics)
        return self.pruner.prune(weight, statistics, patterns, generator)


def expected_shares(space, site, levels, weighting):
    """Eq. 5's weights, from the counts of removed weights."""
    kept = [site.size - space.levels[0][level].removed(site.shape) for level in levels]
    whole = [site.size for _ in levels] if weighting == "uniform" else kept
    return {level: part / sum(whole) for level, part in zip(levels, whole, strict=True)}


def expected_inputs(model, supernet, space, panel, mixture):
    """Inputs of block 1's q_proj in float64; each site of block 0 answers with the mean of its variants' outputs."""
    module = copy.deepcopy(model.module).double()
    hooks, found = [], []
    for index, site in enumerate(space.sites):
        if site.block > 0:
            continue
        dense = site_weight(model.module, site)
        levels = mixture.window.levels[index]
        parts = expected_shares(space, site, levels, mixture.weighting)
        variants = [supernet.variant(index, level, dense) if level else dense for level in levels]

        def mean(_module, args, _output, parts=parts, variants=variants):
            return sum(p * (args[0] @ v.double().T) for p, v in zip(parts.values(), variants, strict=True))

        hooks.append(module.get_submodule(site.module).register_forward_hook(mean))
    last = module.get_submodule("model.layers.1.self_attn.q_proj")
    hooks.append(last.register_forward_pre_hook(lambda _m, args: found.append(args[0])))
    with torch.no_grad():
        module(**panel.batch(slice(0, len(panel))))
    return found[0].reshape(-1, found[0].shape[-1])


@pytest.mark.parametrize("pruner", ["sparsegpt", "wanda"])
@pytest.mark.parametrize("weighting", ["uniform", "expectation"])
@pytest.mark.parametrize("centred", [False, True])
def test_later_blocks_see_the_weighted_mean_of_the_outputs(weighting, centred, pruner, tiny_model, plan_for, tmp_path):
    fine = [round(0.05 * step, 2) for step in range(1, 20)]
    model, plan = plan_for(tiny_model("llama"), levels=fine)
    centre = Allocation(tuple((3 * index) % 20 for index in range(14))) if centred else None
    mixture = Mixture.around(plan.space, weighting, centre)
    recording = Recording(make_pruner(pruner, {}))
    plan = replace(plan, pruner=recording, propagate=mixture)
    supernet = build_supernet(model, plan, tmp_path, batch_size=4)
    inputs = expected_inputs(model, supernet, plan.space, plan.panel, mixture)
    first = next(index for index, site in enumerate(plan.space.sites) if site.block == 1)
    statistics = recording.seen[first]
    np.testing.assert_allclose(statistics.square_sum, inputs.square().sum(dim=0), rtol=1e-4)
    if pruner == "sparsegpt":
        gram = inputs.T @ inputs
        assert float((statistics.gram - gram).abs().max()) < 1e-5 * float(gram.diagonal().max())


def test_the_published_weights_of_nine_structures():
    """At intervals of 12.5 % everything from dense to gone takes part, and the mean keeps 17/24 of the weights."""
    mixture = Mixture.around(EIGHTHS, "expectation", Allocation((4,) * len(EIGHTHS)))
    assert mixture.window == Window.whole(EIGHTHS)
    found = shares(mixture, EIGHTHS, 0)
    assert found == pytest.approx({level: (1 - level / 8) / 4.5 for level in range(9)})
    assert sum(share * (1 - level / 8) for level, share in found.items()) == pytest.approx(17 / 24)


@given(st.sets(st.integers(0, 7), min_size=1), st.sampled_from(["uniform", "expectation"]))
def test_shares_sum_to_one_and_expectation_trusts_denser_variants_more(levels, weighting):
    window = Window((tuple(sorted(levels)),) * len(EIGHTHS))
    found = shares(Mixture(weighting, window), EIGHTHS, 3)
    assert list(found) == sorted(levels)
    assert sum(found.values()) == pytest.approx(1)
    assert found == pytest.approx(expected_shares(EIGHTHS, EIGHTHS.sites[3], sorted(levels), weighting))
    steps = np.diff(list(found.values()))
    assert (steps == 0).all() if weighting == "uniform" else (steps < 0).all()


def test_a_centre_has_four_levels_to_each_side_where_the_grid_has_them():
    mixture = Mixture.around(EIGHTHS, "uniform", Allocation((0, 8, 5, 4, 4, 4, 1)))
    expected = [range(5), range(4, 9), range(1, 9), range(9), range(9), range(9), range(6)]
    assert mixture.window.levels == tuple(tuple(levels) for levels in expected)


def test_means_are_taken_in_float32_or_wider():
    halves = [torch.full((2, 2), value, dtype=torch.float16) for value in (1.0, 1.0 + 2**-10)]
    mean = mean_weight([(0.5, halves[0]), (0.5, halves[1])])
    assert mean.dtype == torch.float32 and float(mean[0, 0]) == 1 + 2**-11
    assert mean_weight([(1.0, halves[0].double())]).dtype == torch.float64


def test_a_mean_of_one_level_is_that_level(tiny_model, plan_for, tmp_path):
    levels = tuple(index % 5 for index in range(14))
    model, plan = plan_for(tiny_model("llama"), propagate=Allocation(levels))
    build_supernet(model, plan, tmp_path / "one")
    for weighting in ("uniform", "expectation"):
        mixture = Mixture(weighting, Window(tuple((level,) for level in levels)))
        build_supernet(model, replace(plan, propagate=mixture), tmp_path / weighting)
        for path in (tmp_path / "one").glob("sites/*.safetensors"):
            assert path.read_bytes() == (tmp_path / weighting / "sites" / path.name).read_bytes()


def test_where_dense_alone_takes_part_the_dense_outputs_are_seen(tiny_model, plan_for, tmp_path):
    for levels, window in ((["2:5"], None), ([0.5], Window(((0,),) * 14))):
        model, plan = plan_for(tiny_model("llama"), levels=levels)
        mixture = Mixture("expectation", window or Window.whole(plan.space))
        build_supernet(model, plan, tmp_path / f"dense {levels}")
        build_supernet(model, replace(plan, propagate=mixture), tmp_path / f"mean {levels}")
        for path in (tmp_path / f"dense {levels}").glob("sites/*.safetensors"):
            assert path.read_bytes() == (tmp_path / f"mean {levels}" / "sites" / path.name).read_bytes()


def test_what_is_shown_is_part_of_the_fingerprint_and_the_manifest(tiny_model, plan_for, tmp_path):
    model, plan = plan_for(tiny_model("llama"), levels=[step / 10 for step in range(1, 10)])
    centres = [None, Allocation((1,) * 14), Allocation((1,) * 13 + (2,))]
    mixtures = [Mixture.around(plan.space, w, centre) for w in ("uniform", "expectation") for centre in centres]
    shown = [None, Allocation((1,) * 14), *mixtures]
    identities = [replace(plan, propagate=each).identity(model) for each in shown]
    assert len({digest(identity) for identity in identities}) == len(shown)
    supernet = build_supernet(model, replace(plan, propagate=mixtures[-1]), tmp_path)
    assert read_manifest(tmp_path)["identity"] == json.loads(json.dumps(identities[-1]))
    assert supernet.fingerprint == digest(identities[-1])
