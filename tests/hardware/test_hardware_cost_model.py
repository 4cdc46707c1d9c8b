"""The time and the bytes of a whole allocation, against sums that are written out."""

import dataclasses

import numpy as np
import pytest
from measured import OUTSIDE, SCALE, best_seconds, table_for, table_of

from sparsearch.errors import ConfigError
from sparsearch.hardware.cost_model import Chooser, calibrated, latency, rivals, site_shape, with_latency
from sparsearch.hardware.model_runs import architecture
from sparsearch.hardware.table import read_table, write_table
from sparsearch.job.prepare import model_space
from sparsearch.model.load import wrap_model
from sparsearch.space import Allocation, Budget, level_grid

GRID = level_grid([0.3, 0.5, 0.6, 0.8, 0.9])


@pytest.fixture
def model(tiny_model):
    return wrap_model(tiny_model("llama"))


def predict(model, table, tokens, targets=("*",)):
    space = model_space(model, GRID, targets)
    found = latency(space, table, tokens, "float32", table.runs_of(architecture(model)))
    return with_latency(space, found, 4), found


@pytest.mark.parametrize("tokens", [1, 16])
def test_an_allocation_takes_the_rest_and_the_scaled_products_of_its_levels(model, tokens):
    space, found = predict(model, table_for(model), tokens)
    assert (found.scale, found.error) == (pytest.approx(SCALE), pytest.approx(0, abs=1e-9))
    rng = np.random.default_rng(0)
    for _ in range(20):
        allocation = Allocation.of(rng.integers(0, space.counts))
        densities = 1 - space.sparsities[np.arange(len(space)), allocation.array]
        products = [best_seconds(site_shape(s), tokens, d) for s, d in zip(space.sites, densities, strict=True)]
        assert space.cost("latency", allocation) == pytest.approx(OUTSIDE + SCALE * sum(products))


def test_low_sparsity_costs_no_more_than_dense(model):
    space, _ = predict(model, table_for(model), 1)
    assert (space.costs["latency"] <= space.costs["latency"][:, :1] * (1 + 1e-12)).all()
    assert (space.costs["latency"][:, 1] == space.costs["latency"][:, 0]).all()  # 0.3 buys no time


def test_linears_that_are_no_sites_stay_torchs_own(model):
    table = table_for(model)
    whole, _ = predict(model, table, 1)
    part, _ = predict(model, table, 1, ("*mlp*",))
    assert len(part) < len(whole)
    assert part.cost("latency", part.dense()) == pytest.approx(whole.cost("latency", whole.dense()))


def test_bytes_are_those_of_the_backend_that_runs(model):
    space, _ = predict(model, table_for(model), 1)
    row = [space.costs["bytes"][0, index] / space.sites[0].size for index in range(6)]
    assert row == pytest.approx([4, 4, 2, 1.6, 0.8, 0.4], abs=1e-2)  # dense up to 0.4, then the bit mask
    assert space.constants["bytes"] == 4 * space.constants["params"]


def test_the_stated_error_is_the_largest_of_the_calibration(model):
    table = table_for(model, (0.06, -0.04, 0.02))
    _, found = predict(model, table, 1)
    runs = table.runs_of(architecture(model)).of(1)
    dense, chooser = runs["dense"].seconds, Chooser(table, 1, rivals("cpu", "float32"))
    shapes = [site_shape(site) for site in model_space(model, GRID).sites]
    errors = []
    for level in level_grid([0.5, 0.75, 0.95])[1:]:
        delta = sum(chooser.of(shape, level).seconds - chooser.of(shape, GRID[0]).seconds for shape in shapes)
        errors.append(abs((dense + found.scale * delta) / runs[level.label].seconds - 1))
    assert found.error == pytest.approx(max(errors)) and 0.001 < found.error < 0.1


def test_the_scalar_has_the_least_squared_relative_errors(model):
    table = table_for(model, (0.06, -0.04, 0.02))
    runs, chooser = table.runs_of(architecture(model)), Chooser(table, 1, rivals("cpu", "float32"))
    scale, _ = calibrated(runs, chooser)
    measured = runs.of(1)
    dense = measured.pop("dense").seconds
    levels = dict(zip(measured, level_grid([0.5, 0.75, 0.95])[1:], strict=True))

    def loss(s):
        total = 0.0
        for label, run in measured.items():
            delta = sum(
                chooser.of(shape, levels[label]).seconds - chooser.of(shape, GRID[0]).seconds
                for shape in runs.linears.values()
            )
            total += ((dense + s * delta) / run.seconds - 1) ** 2
        return total

    assert loss(scale) <= min(loss(scale * (1 - 1e-3)), loss(scale * (1 + 1e-3)))


def test_noise_that_hides_what_sparsity_changes_leaves_the_scalar_near_one(model):
    table = table_for(model, (0.06, -0.04, 0.02))
    runs, chooser = table.runs_of(architecture(model)), Chooser(table, 1, rivals("cpu", "float32"))
    loud = dataclasses.replace(runs, runs=tuple(dataclasses.replace(run, spread=50.0) for run in runs.runs))
    assert calibrated(loud, chooser)[0] == pytest.approx(1, abs=1e-3)
    assert calibrated(runs, chooser)[0] < 0.95


def test_sparser_models_that_seem_slower_leave_a_scalar_above_zero(model):
    _, found = predict(model, table_for(model, (0.5, 1.0, 2.0)), 1)
    assert 0 < found.scale < 0.1 and found.error > 0.3
    assert np.isinf(found.sites.seconds[~model_space(model, GRID).valid]).all()


def test_without_times_of_the_model_the_products_alone_count(model):
    table = dataclasses.replace(table_for(model), models=())
    space, found = predict(model, table, 1)
    assert (found.error, found.scale, found.constant) == (None, 1.0, 0.0)
    dense = sum(best_seconds(site_shape(site), 1, 1.0) for site in space.sites)
    assert space.cost("latency", space.dense()) == pytest.approx(dense)


def test_a_token_count_without_a_whole_run_is_refused(model):
    table = table_for(model)
    runs = dataclasses.replace(table.models[0], runs=tuple(run for run in table.models[0].runs if run.tokens == 1))
    with pytest.raises(ConfigError, match="not measured with 16; measured: 1; run sparsearch measure with --tokens 16"):
        predict(model, dataclasses.replace(table, models=(runs,)), 16)


@pytest.mark.parametrize(
    ("storage", "kept", "rounding"),
    [("float32", "bitmask_fp32", "bitmask_bf16"), ("bfloat16", "bitmask_bf16", "bitmask_int8"),
     ("float16", "bitmask_fp32", "bitmask_bf16")],
)  # fmt: skip
def test_kernels_that_round_a_checkpoint_do_not_compete(storage, kept, rounding):
    names = rivals("cpu", storage)
    assert {kept, "dense", "csr16", "torch_csr"} <= names
    assert not {rounding, "bitmask_int8", "dense_prepacked", "cuda_dense"} & names


def test_a_budget_in_milliseconds_bounds_the_prediction(model):
    space, _ = predict(model, table_for(model), 1)
    dense, least = space.cost("latency", space.dense()), space.least("latency")
    limits = Budget(latency=f"{1e3 * (dense + least) / 2}ms").limits(space)
    assert limits.bounds[0] == pytest.approx((dense + least) / 2 - space.constants["latency"])


def test_the_file_keeps_whole_models(model, tmp_path):
    table = table_for(model)
    write_table(tmp_path / "m.json", table)
    assert read_table(tmp_path / "m.json") == table
    assert read_table(tmp_path / "m.json").runs_of("another") is None


def test_models_of_one_architecture_share_their_times(tiny_model):
    same, other = wrap_model(tiny_model("llama")), wrap_model(tiny_model("llama_tied"))
    assert architecture(same) == architecture(wrap_model(tiny_model("llama"), "another name"))
    assert architecture(same) != architecture(other)


def test_shapes_without_a_model_are_a_table_too():
    assert table_of({(8, 16)}).models == ()
