"""Measuring with a clock that the backends move on themselves: nothing here is timed."""

import dataclasses
import time

import numpy as np
import pytest
import torch

from sparsearch.errors import ConfigError
from sparsearch.hardware import measure as measuring
from sparsearch.hardware.kernels.dense import Dense
from sparsearch.hardware.measure import Plan, device_clock, left_to_measure, measure, open_table, pruned_weight
from sparsearch.hardware.table import Table, read_table
from sparsearch.space.level import level_grid, parse_level

FINGERPRINT = {"dtype": "float32", "threads": 1}
SHAPES = ((8, 16), (4, 8))
PLAN = Plan(SHAPES, (1, 4), level_grid([0.5, 0.75]), rounds=5, sample=0.0)


class Clock:
    """Seconds that only backends let pass; `calls` names who computed when."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def __call__(self):
        return self.now


class Timed(Dense):
    """Takes `cost(number of its call)` seconds a product."""

    def __init__(self, clock, name, cost):
        self.clock, self.name, self.cost, self.seen = clock, name, cost, 0

    def refuses(self, shape, dtype, label):
        return "too small" if self.name == "choosy" and shape == (4, 8) else None

    def matmul(self, x, packed):
        self.clock.calls.append((self.name, packed.tensors["weight"].data_ptr()))
        self.clock.now += self.cost(self.seen)
        self.seen += 1
        return super().matmul(x, packed)


@pytest.fixture
def clock(monkeypatch):
    """Backends that are listed after the ones they are compared with, one of which serves one shape only."""
    clock = Clock()
    monkeypatch.setattr(measuring, "CACHE_BYTES", 0)
    use(monkeypatch, clock, fast=lambda call: 1.0, choosy=lambda call: 8.0, dense=lambda call: 4.0)
    return clock


def use(monkeypatch, clock, **costs):
    backends = {name: Timed(clock, name, cost) for name, cost in costs.items()}
    monkeypatch.setattr(measuring, "BACKENDS", backends)


def run(plan, path, clock):
    return measure(plan, open_table(path, FINGERPRINT, plan.rounds), path, clock=clock)


def test_every_cell_is_measured_against_dense(tmp_path, clock):
    table = run(PLAN, tmp_path / "m.json", clock)
    assert read_table(tmp_path / "m.json") == table
    assert len(table.cells) == sum(map(PLAN.cells, SHAPES)) == 2 * 3 * (3 + 2)
    for cell in table.cells:
        expected = {"dense": 4.0, "fast": 1.0, "choosy": 8.0}[cell.backend]
        assert (cell.seconds, cell.ratio, cell.spread) == (expected, expected / 4, 0)
        assert cell.bytes == 4 * cell.shape[0] * cell.shape[1]
        assert cell.density == {"dense": 1.0, "0.5": 0.5, "0.75": 0.25}[cell.label]


def test_backends_take_turns_in_every_round_dense_first(tmp_path, clock):
    run(dataclasses.replace(PLAN, shapes=SHAPES[:1], tokens=(1,), levels=PLAN.levels[:1]), tmp_path / "m", clock)
    names = [name for name, _ in clock.calls]
    assert names[6:] == ["dense", "fast", "choosy"] * 5  # the first two of each prepare


def test_ratios_and_dense_are_medians_over_rounds(tmp_path, clock, monkeypatch):
    # Calls 0 and 1 prepare; then five rounds. Dense in rounds: 4 4 4 8 8; fast: 1 1 2 2 2.
    dense, fast = (0, 0, 4, 4, 4, 8, 8), (0, 0, 1, 1, 2, 2, 2)
    use(monkeypatch, clock, dense=lambda call: dense[call % 7], fast=lambda call: fast[call % 7])
    monkeypatch.setattr(measuring, "NOISY", 10.0)
    plan = dataclasses.replace(PLAN, shapes=SHAPES[:1], tokens=(1,), levels=PLAN.levels[:1])
    cells = {cell.backend: cell for cell in run(plan, tmp_path / "m", clock).cells}
    ratio = np.median(np.array(fast[2:]) / dense[2:])
    assert (cells["fast"].ratio, cells["fast"].dense_seconds, cells["dense"].seconds) == (ratio, 4.0, 4.0)
    assert cells["fast"].seconds == 2.0
    assert cells["fast"].spread == 0.5  # quartiles 1 and 2, median 2


def test_a_level_whose_dense_was_slowed_down_is_noisy_without_any_spread(tmp_path, clock, monkeypatch):
    # Seven calls a level; everything takes 100 times as long in the third.
    slow = {"dense": 4.0, "fast": 1.0}
    use(monkeypatch, clock, **{name: lambda call, s=s: s * (100 if call >= 14 else 1) for name, s in slow.items()})
    cells = run(dataclasses.replace(PLAN, shapes=SHAPES[:1], tokens=(1,)), tmp_path / "m", clock).cells
    assert {(cell.label, cell.spread, cell.noisy) for cell in cells} == {
        ("dense", 0, False), ("0.5", 0, False), ("0.75", 0, True)
    }  # fmt: skip
    assert [cell.seconds for cell in cells if cell.backend == "fast"] == [1.0, 1.0, 100.0]


def test_noisy_cells_are_measured_once_more_beside_dense(tmp_path, clock, monkeypatch):
    # Noisy in its first five rounds, quiet in the second five.
    loud = [1.0 + call % 2 * (call < 7) for call in range(12)]
    use(monkeypatch, clock, dense=lambda call: 4.0, quiet=lambda call: 2.0, fast=loud.__getitem__)
    plan = dataclasses.replace(PLAN, shapes=SHAPES[:1], tokens=(1,), levels=PLAN.levels[:1])
    cells = {cell.backend: cell for cell in run(plan, tmp_path / "m", clock).cells}
    assert [name for name, _ in clock.calls][-10:] == ["dense", "fast"] * 5
    assert (cells["fast"].seconds, cells["fast"].spread) == (1.0, 0.0)


def test_copies_are_used_in_turn(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(measuring, "CACHE_BYTES", 3 * 8 * 16 * 4)
    run(dataclasses.replace(PLAN, shapes=SHAPES[:1], tokens=(1,), levels=PLAN.levels[:1]), tmp_path / "m", clock)
    places = [place for name, place in clock.calls if name == "fast"]
    assert len(set(places)) == 3
    assert places == [places[index % 3] for index in range(len(places))]


def test_short_products_are_repeated_to_fill_a_sample(tmp_path, clock):
    plan = dataclasses.replace(PLAN, shapes=SHAPES[:1], tokens=(1,), levels=PLAN.levels[:1], sample=8.0)
    run(plan, tmp_path / "m", clock)
    names = [name for name, _ in clock.calls]
    assert names[6:17] == ["dense"] * 2 + ["fast"] * 8 + ["choosy"]


def test_an_interrupted_measurement_goes_on_behind_the_last_finished_shape(tmp_path, clock, monkeypatch):
    path, shape_of = tmp_path / "m.json", measuring.measure_shape

    def interrupted(plan, shape, clock):
        if shape == SHAPES[1]:
            raise KeyboardInterrupt
        return shape_of(plan, shape, clock)

    monkeypatch.setattr(measuring, "measure_shape", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(PLAN, path, clock)
    first = read_table(path)
    assert first.shapes == [SHAPES[0]] and left_to_measure(PLAN, first) == [SHAPES[1]]
    monkeypatch.setattr(measuring, "measure_shape", shape_of)
    table = run(PLAN, path, clock)
    assert table.cells[: len(first.cells)] == first.cells and left_to_measure(PLAN, table) == []
    clock.calls.clear()
    assert run(PLAN, path, clock) == table and not clock.calls


def test_more_token_counts_join_the_file(tmp_path, clock):
    path = tmp_path / "m.json"
    run(PLAN, path, clock)
    table = run(dataclasses.replace(PLAN, tokens=(16,)), path, clock)
    assert table.tokens_of(SHAPES[0]) == [1, 4, 16]
    assert len({(cell.backend, cell.shape, cell.tokens, cell.label) for cell in table.cells}) == len(table.cells)


def test_a_file_from_elsewhere_or_a_folder_is_refused(tmp_path, clock):
    run(PLAN, tmp_path / "m.json", clock)
    with pytest.raises(ConfigError, match="threads is 1 there and 2 now"):
        open_table(tmp_path / "m.json", FINGERPRINT | {"threads": 2}, 5)
    with pytest.raises(ConfigError, match="is a folder; give the name of a file"):
        open_table(tmp_path, FINGERPRINT, 5)


@pytest.mark.parametrize("label", ["dense", "0.3", "0.95", "2:4"])
def test_weights_have_the_zeros_of_their_level(label):
    level = parse_level(label)
    weight = pruned_weight((8, 16), level, torch.float32)
    assert int((weight == 0).sum()) == level.removed((8, 16))
    assert torch.equal(weight, pruned_weight((8, 16), level, torch.float32))
    if level.group:
        assert ((weight.reshape(-1, level.group) == 0).sum(1) == 2).all()


def test_nothing_measured_is_all_left():
    assert left_to_measure(PLAN, Table(FINGERPRINT, 5)) == list(SHAPES)


def test_the_backends_of_a_plan_may_be_fewer_but_dense_is_always_there(tmp_path, clock):
    table = run(dataclasses.replace(PLAN, among={"fast"}), tmp_path / "m.json", clock)
    assert {cell.backend for cell in table.cells} == {"dense", "fast"}
    assert left_to_measure(PLAN, table) == []


def test_one_thread_is_timed_by_its_processor_time_and_several_by_the_clock():
    single, several = device_clock("cpu", 1), device_clock("cpu", 2)
    before = single(), several()
    time.sleep(0.05)
    assert single() - before[0] < 0.04 < several() - before[1]
