import math
from fractions import Fraction

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sparsearch.errors import ConfigError
from sparsearch.space import DENSE, level_grid, parse_level


@pytest.mark.parametrize(
    ("value", "label", "sparsity", "group"),
    [
        (0.55, "0.55", 0.55, 0),
        ("0.550", "0.55", 0.55, 0),
        (" .5 ", "0.5", 0.5, 0),
        (1, "1", 1.0, 0),
        (1e-5, "1e-05", 1e-5, 0),
        ("2:4", "2:4", 0.5, 4),
        ("02:04", "2:4", 0.5, 4),
        ("1:8", "1:8", 0.875, 8),
        (0, "dense", 0.0, 0),
        ("0.0", "dense", 0.0, 0),
        ("dense", "dense", 0.0, 0),
    ],
)
def test_levels_are_read(value, label, sparsity, group):
    level = parse_level(value)
    assert (level.label, level.sparsity, level.group) == (label, sparsity, group)
    assert level.is_dense == (label == "dense")
    assert parse_level(level.label) == level


@pytest.mark.parametrize(
    "value",
    [-0.1, 1.01, "4:2", "4:4", "0:4", "2:4:8", "half", "", ".", "1.2.3", "nan", float("nan"), "1e5", True, None],
)
def test_bad_levels_are_named(value):
    with pytest.raises(ConfigError, match=r"^levels: .* is no level; allowed: a sparsity from 0 to 1"):
        parse_level(value)


def test_an_unquoted_n_of_m_in_yaml_gets_a_hint():
    (value,) = yaml.safe_load("[2:4]")
    assert value == 124
    with pytest.raises(ConfigError, match="write N:M in quotes"):
        parse_level(value)


def test_grid_is_sorted_and_starts_dense():
    assert [level.label for level in level_grid([0.9, "2:4", 0.25, 0.5])] == ["dense", "0.25", "0.5", "2:4", "0.9"]
    assert level_grid([]) == level_grid(["dense"]) == (DENSE,)


@pytest.mark.parametrize("values", [[0.5, "0.50"], ["2:4", "02:4"]])
def test_a_level_listed_twice_is_refused(values):
    with pytest.raises(ConfigError, match="is listed twice"):
        level_grid(values)


@given(st.integers(0, 1000), st.integers(1, 20_000), st.integers(1, 20_000))
def test_removed_is_rounded_up_exactly(thousandths, rows, columns):
    level = parse_level(thousandths / 1000)
    assert level.removed((rows, columns)) == math.ceil(Fraction(thousandths, 1000) * rows * columns)


@given(st.integers(1, 8).flatmap(lambda m: st.tuples(st.integers(1, m), st.just(m + 1))), st.integers(1, 500))
def test_removed_of_n_of_m_is_exact(pair, groups):
    keep, group = pair
    level = parse_level(f"{keep}:{group}")
    shape = (3, groups * group)
    assert level.fits(shape)
    assert level.removed(shape) == 3 * groups * (group - keep)
    assert not level.fits((3, groups * group + 1))
