"""Timing whole models with a clock that the packed linears move on themselves: nothing here is timed."""

import dataclasses
import json

import pytest
import torch
from measured import TOKENS, best_seconds, density_of, table_of

from sparsearch.errors import ResourceError
from sparsearch.hardware import measure_model as measuring
from sparsearch.hardware.cost_model import Chooser, calibrated, rivals, site_shape
from sparsearch.hardware.measure import Plan
from sparsearch.hardware.measure_model import ModelPlan, Packer, Prefill, measure_model, replaced, timed_variants
from sparsearch.hardware.model_runs import architecture
from sparsearch.hardware.table import read_table
from sparsearch.model.load import wrap_model
from sparsearch.model.sites import find_sites
from sparsearch.runtime.linear import Form, PackedLinear
from sparsearch.space.level import level_grid

GRID = level_grid([0.5, 0.75, 0.95])


class Clock:
    """Seconds that only packed linears let pass."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Ticking(PackedLinear):
    """A packed linear that takes as long as the made-up table says."""

    clock = None

    def forward(self, x):
        packed = self.forms[0].packed
        density = float((self.forms[0].backend.unpack(packed.shape, packed.tensors) != 0).double().mean())
        self.clock.now += best_seconds(packed.shape, x.reshape(-1, x.shape[-1]).shape[0], density)
        return super().forward(x)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(Ticking, "clock", clock)
    return clock


def wrap(backend, packed, bias):
    return Ticking([Form(backend, packed)], bias, torch.float32)


def planned(module, tokens=TOKENS):
    model = wrap_model(module)
    shapes = tuple(sorted({site_shape(site) for site in find_sites(model)}))
    return ModelPlan(model, Plan(shapes, tokens, GRID, rounds=3), wrap), table_of(shapes)


def test_every_run_takes_what_its_products_do(tiny_model, clock, tmp_path):
    plan, table = planned(tiny_model("llama"))
    table = measure_model(plan, table, tmp_path / "m.json", clock)
    assert read_table(tmp_path / "m.json") == table
    runs = table.runs_of(architecture(plan.model))
    assert runs.tokens == list(TOKENS) and runs.storage == "float32"
    for run in runs.runs:
        products = [best_seconds(shape, run.tokens, density_of(shape, run.label)) for shape in runs.linears.values()]
        assert run.seconds == pytest.approx(sum(products)) and run.spread < 1e-9
    scale, error = calibrated(runs, Chooser(table, 1, rivals("cpu", "float32")))
    assert (scale, error) == (pytest.approx(1), pytest.approx(0, abs=1e-9))


def test_it_goes_on_where_it_stopped(tiny_model, clock, tmp_path):
    plan, table = planned(tiny_model("llama"), (1,))
    first = measure_model(plan, table, tmp_path / "m.json", clock)
    both = dataclasses.replace(plan, plan=dataclasses.replace(plan.plan, tokens=(1, 16)))
    assert both.left(first) == [16]
    seen = []
    second = measure_model(both, first, tmp_path / "m.json", clock, lambda done, total: seen.append((done, total)))
    assert seen == [(0, 1), (1, 1)] and both.left(second) == []
    assert second.models[0].runs[:4] == first.models[0].runs
    before = clock.now
    assert measure_model(both, second, tmp_path / "m.json", clock) == second and clock.now == before


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "bert", "gemma2"])
@pytest.mark.parametrize("tokens", [1, 16])
def test_families_run_and_are_as_before(tiny_model, clock, family, tokens):
    module = tiny_model(family)
    ids = torch.arange(5)[None]
    before, linears = module(input_ids=ids)[0], dict(module.named_modules())
    plan, table = planned(module)
    packer = Packer(plan, Chooser(table, tokens, rivals("cpu", "float32")))
    variants = {level.label: packer.modules({site: level for site in find_sites(plan.model)}) for level in GRID}
    taken = timed_variants(plan.model, variants, tokens, 3, 1e9, clock)
    assert {name: len(row) for name, row in taken.items()} == {level.label: 3 for level in GRID}
    assert taken["0.95"][0] < taken["0.5"][0] < taken["dense"][0]
    assert torch.equal(module(input_ids=ids)[0], before)
    assert all(dict(module.named_modules())[name] is part for name, part in linears.items())


def test_what_else_the_runtime_replaces_is_timed_in_every_variant(tiny_model, clock, tmp_path):
    plan, table = planned(tiny_model("llama"), (1,))
    alone = measure_model(plan, table, tmp_path / "alone.json", clock)
    head = plan.model.module.get_output_embeddings()

    class Head(torch.nn.Linear):
        def forward(self, x):
            clock.now += 1e-3
            return head(x)

    with_head = dataclasses.replace(plan, others={"lm_head": Head(1, 1)})
    found = measure_model(with_head, table, tmp_path / "m.json", clock)
    for own, other in zip(alone.models[0].runs, found.models[0].runs, strict=True):
        assert other.seconds == pytest.approx(own.seconds + 1e-3)
    assert plan.model.module.get_output_embeddings() is head


def test_long_rounds_are_few(tiny_model, clock):
    plan, table = planned(tiny_model("llama"))
    packer = Packer(plan, Chooser(table, 16, rivals("cpu", "float32")))
    variants = {"dense": packer.modules({site: GRID[0] for site in find_sites(plan.model)})}
    # The model's own linears take no time here, so that the most repetitions are taken.
    one = measuring.STEPS * timed_variants(plan.model, variants, 16, 3, 1e9, clock)["dense"][0]
    assert len(timed_variants(plan.model, variants, 16, 50, 10.5 * one, clock)["dense"]) == 10
    assert len(timed_variants(plan.model, variants, 16, 50, 0.0, clock)["dense"]) == measuring.LEAST_ROUNDS


@pytest.mark.parametrize(("seconds", "repeats"), [(0.001, measuring.STEPS), (0.011, 3), (0.5, 1)])
def test_short_prefills_are_repeated_in_a_timing(tiny_model, clock, seconds, repeats):
    module = tiny_model("llama")
    call = []

    def forward(*_):
        call.append(clock.now)
        clock.now += seconds

    module.register_forward_hook(forward)
    prefill = Prefill(wrap_model(module), 16, clock)
    call.clear()
    assert prefill() == pytest.approx(seconds) and len(call) == repeats


def test_what_fails_within_leaves_the_model_as_it_was(tiny_model):
    module = tiny_model("llama")
    linear = module.model.layers[0].mlp.up_proj
    with pytest.raises(KeyboardInterrupt), replaced(module, {"model.layers.0.mlp.up_proj": torch.nn.Identity()}):
        raise KeyboardInterrupt
    assert module.model.layers[0].mlp.up_proj is linear


def test_calibration_takes_three_levels_spread_over_the_plans(tiny_model):
    plan, _ = planned(tiny_model("llama"))
    many = dataclasses.replace(plan.plan, levels=level_grid([0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, "2:4"]))
    labels = [level.label for level in dataclasses.replace(plan, plan=many).levels]
    assert labels == ["dense", "0.5", "0.7", "0.9"]


def test_counts_beyond_the_models_positions_are_left_out(tiny_model):
    plan, table = planned(tiny_model("llama"), (1, 64, 256))
    assert plan.tokens == [1, 64] and plan.left(table) == [1, 64]


def test_models_without_token_ids_are_not_timed(tiny_model):
    assert planned(tiny_model("vit"))[0].tokens == []


def test_the_file_is_plain_data(tiny_model, clock, tmp_path):
    plan, table = planned(tiny_model("llama"), (1,))
    measure_model(plan, table, tmp_path / "m.json", clock)
    (model,) = json.loads((tmp_path / "m.json").read_text())["models"]
    assert set(model) == {"architecture", "name", "storage", "linears", "runs"}
    assert set(model["runs"][0]) == {"tokens", "label", "seconds", "spread"}
    assert model["linears"]["model.layers.0.mlp.up_proj"] == [48, 32]


@pytest.mark.parametrize(
    ("field", "value"), [("seconds", 0), ("label", "much"), ("tokens", "1"), ("more", 1), ("storage", "load")]
)
def test_a_damaged_run_is_refused(tiny_model, clock, tmp_path, field, value):
    path = tmp_path / "m.json"
    plan, table = planned(tiny_model("llama"), (1,))
    measure_model(plan, table, path, clock)
    data = json.loads(path.read_text())
    (data["models"][0] if field == "storage" else data["models"][0]["runs"][0])[field] = value
    path.write_text(json.dumps(data))
    with pytest.raises(ResourceError, match=r"m\.json is damaged"):
        read_table(path)
