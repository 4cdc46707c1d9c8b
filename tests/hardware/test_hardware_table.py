"""The file of measured times, and what a search space costs by it."""

import dataclasses
import json

import numpy as np
import pytest

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.hardware.cells import Cell
from sparsearch.hardware.cost_model import site_costs
from sparsearch.hardware.fingerprint import machine_fingerprint
from sparsearch.hardware.table import Table, check_same_machine, read_table, write_table
from sparsearch.model.site import Site
from sparsearch.space.level import level_grid
from sparsearch.space.space import linear_space

FINGERPRINT = {"dtype": "float32", "threads": 1}
SHAPES = ((8, 16), (6, 10))
SPARSE = {"a": {0.1: 1.0, 0.5: 4.0, 1.0: 12.0}, "b": {0.3: 0.5, 0.6: 9.0}}


def table(*extra):
    cells = [
        Cell(name, shape, tokens, density, seconds * tokens * shape[0], label=f"{1 - density:g}")
        for shape in SHAPES
        for tokens in (1, 4)
        for name, line in SPARSE.items()
        for density, seconds in line.items()
    ]
    cells += [Cell("dense", shape, tokens, 1.0, 5.0 * tokens * shape[0]) for shape in SHAPES for tokens in (1, 4)]
    return Table(FINGERPRINT, 3, (*cells, *extra))


def space(*shapes, levels=(0.1, 0.35, 0.5, 0.6, 0.9, "2:4")):
    sites = [Site(f"s{index}", f"s{index}", "k", 0, shape) for index, shape in enumerate(shapes)]
    return linear_space(sites, level_grid(list(levels)), itemsize=4)


def line_at(points, density):
    """The straight line through the two neighbours, written out; None outside."""
    known = sorted(points)
    if not known[0] <= density <= known[-1]:
        return np.inf
    left = max(at for at in known if at <= density)
    right = min(at for at in known if at >= density)
    share = 0 if left == right else (density - left) / (right - left)
    return points[left] * (1 - share) + points[right] * share


@pytest.mark.parametrize("tokens", [1, 4])
def test_every_level_costs_the_fastest_backend_by_brute_force(tokens):
    searched = space(*SHAPES, SHAPES[0])
    found = site_costs(searched, table(), tokens).seconds
    assert found.shape == searched.valid.shape
    assert np.isinf(found[~searched.valid]).all() and (~searched.valid).sum() == 1  # 2:4 does not fit 10 inputs
    for row, site in enumerate(searched.sites):
        for column, sparsity in enumerate(searched.sparsities[row, : searched.counts[row]]):
            best = min(5.0, *(line_at(points, 1 - sparsity) for points in SPARSE.values()))
            assert found[row, column] == pytest.approx(best * tokens * site.shape[0])
    assert (found[:, 0] == [5.0 * tokens * site.shape[0] for site in searched.sites]).all()


def test_cells_of_a_pattern_count_for_that_pattern_alone():
    measured = table(Cell("pattern", SHAPES[0], 1, 0.5, 0.25, label="2:4"))
    searched = space(SHAPES[0], levels=(0.5, "2:4"))
    plain, pattern = (site_costs(searched, measured, 1).seconds[0, index] for index in (1, 2))
    assert (plain, pattern) == (pytest.approx(4.0 * 8), 0.25)


def test_level_zero_takes_the_fastest_at_density_one():
    measured = table(Cell("prepacked", SHAPES[0], 1, 1.0, 2.0))
    assert site_costs(space(SHAPES[0]), measured, 1).seconds[0, 0] == 2.0


def test_what_was_not_measured_is_refused_with_what_was():
    with pytest.raises(ConfigError, match="16 x 8 of site s0 was not measured; measured: 6 x 10, 8 x 16"):
        site_costs(space((16, 8)), table(), 1)
    with pytest.raises(ConfigError, match=r"tokens: 2 .* allowed: 1, 4, or run sparsearch measure with --tokens 2"):
        site_costs(space(SHAPES[0]), table(), 2)
    other = dataclasses.replace(table(), fingerprint={"dtype": "bfloat16"})
    with pytest.raises(ConfigError, match="not measured in bfloat16"):
        site_costs(space(SHAPES[0]), other, 1)


def test_the_file_gives_back_what_was_written(tmp_path):
    write_table(tmp_path / "m.json", table())
    assert read_table(tmp_path / "m.json") == table()
    assert json.loads((tmp_path / "m.json").read_text())["schema"] == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [("seconds", -1.0), ("seconds", "1"), ("shape", [1, 2, 3]), ("tokens", 1.5), ("backend", 3), ("unknown", 1)],
)
def test_a_damaged_file_is_refused(tmp_path, field, value):
    data = table().to_dict()
    data["cells"][0][field] = value
    (tmp_path / "m.json").write_text(json.dumps(data))
    with pytest.raises(ResourceError, match=r"m.json is damaged .* measure again into another file"):
        read_table(tmp_path / "m.json")


@pytest.mark.parametrize("dtype", ["load", 32])
def test_a_type_that_is_none_is_damage(tmp_path, dtype):
    data = table().to_dict() | {"fingerprint": {"dtype": dtype}}
    (tmp_path / "m.json").write_text(json.dumps(data))
    with pytest.raises(ResourceError, match=f"is damaged .*{dtype}"):
        read_table(tmp_path / "m.json")


def test_another_schema_is_refused(tmp_path):
    (tmp_path / "m.json").write_text("[]")
    with pytest.raises(ResourceError, match="schema None; this version reads 2"):
        read_table(tmp_path / "m.json")


def test_another_machine_is_refused_with_what_differs(tmp_path):
    check_same_machine(tmp_path, table(), FINGERPRINT, 3)
    with pytest.raises(ConfigError, match="rounds is 3 there and 5 now; threads is 1 there and 2 now; choose another"):
        check_same_machine(tmp_path, table(), FINGERPRINT | {"threads": 2}, 5)


def test_the_fingerprint_names_what_times_depend_on():
    found = machine_fingerprint("cpu", 3, "float32")
    assert (found["threads"], found["dtype"], found["accelerator"]) == (3, "float32", "none")
    assert all(found[name] for name in ("processor", "instructions", "cores", "torch"))
