import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsearch.errors import ConfigError
from sparsearch.export.recipe_evopress import (
    default_step,
    level_range,
    parse_levels,
    parse_sidecar,
    to_levels,
)
from sparsearch.space import Profile

SIZES = {"layers.0.attn.q": 4096 * 4096, "layers.0.attn.k": 1024 * 4096, "layers.0.mlp.up": 14336 * 4096}


def profile(sparsities, budget=None):
    """A profile of the three layers above."""
    shapes = {"layers.0.attn.q": [4096, 4096], "layers.0.attn.k": [1024, 4096], "layers.0.mlp.up": [14336, 4096]}
    sites = tuple(
        {"name": name, "kind": name[9:], "block": 0, "shape": shapes[name], "level": f"{value:g}", "sparsity": value}
        for name, value in zip(shapes, sparsities, strict=True)
    )
    return Profile(sites, budget or {}, {})


def parse(*lines, target=0.6, step=1_000_000):
    return parse_levels("\n".join(lines), "file.txt", SIZES, target, step)


WHOLE = ["layers.0.attn.q: 2", "layers.0.attn.k: -1", "layers.0.mlp.up: 0"]


def test_a_level_is_so_many_weights_off_the_target():
    found = parse(*WHOLE)
    assert found.sparsities == {
        "layers.0.attn.q": pytest.approx(0.6 + 2e6 / 16777216),
        "layers.0.attn.k": pytest.approx(0.6 - 1e6 / 4194304),
        "layers.0.mlp.up": pytest.approx(0.6),
    }
    # One level up in one layer, one down in another: the weights gone stay the same.
    total = sum(SIZES.values())
    assert found.sparsity == pytest.approx(0.6 + 1e6 / total)


def test_the_range_of_levels_is_that_of_the_published_databases():
    """The table of reference/searchers.md 1.2, there capped at 8 levels: q, k and up at 50, 60 and 70 %."""
    ranges = {target: [level_range(target, 1_000_000, size) for size in SIZES.values()] for target in (0.5, 0.6, 0.7)}
    assert [(max(low, -8), min(high, 8)) for low, high in ranges[0.5]] == [(-8, 8), (-2, 2), (-8, 8)]
    assert [(max(low, -8), min(high, 8)) for low, high in ranges[0.6]] == [(-8, 6), (-2, 1), (-8, 8)]
    assert [(max(low, -8), min(high, 8)) for low, high in ranges[0.7]] == [(-8, 5), (-2, 1), (-8, 8)]


def test_text_is_written_as_evopress_writes_it_and_read_back():
    found = parse(*WHOLE)
    assert found.text() == "\n".join(WHOLE)
    assert parse_levels(found.text() + "\n", "file.txt", SIZES, 0.6, 1_000_000) == found
    target, step = parse_sidecar(found.sidecar(), "file.txt.json", SIZES)
    assert parse_levels(found.text(), "file.txt", SIZES, target, step) == found


@given(
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.floats(0.05, 0.95),
    st.integers(1, 5_000_000),
)
def test_levels_are_the_nearest_that_a_database_can_have(sparsities, target, step):
    found = to_levels(profile(sparsities), target, step)
    for (name, size), wished in zip(SIZES.items(), sparsities, strict=True):
        low, high = level_range(target, step, size)
        assert low <= found.levels[name] <= high
        assert -1e-9 <= found.sparsities[name] <= 1 + 1e-9
        inside = target + (low - 0.5) * step / size <= wished <= target + (high + 0.5) * step / size
        if inside:
            assert abs(found.sparsities[name] - wished) <= 0.5 * step / size + 1e-9
    assert parse_levels(found.text(), "x", SIZES, target, step) == found


def test_target_and_step_by_default():
    assert (to_levels(profile([0.5, 0.75, 0.25], {"sparsity": "0.6"})).target, STEP) == (0.6, 1_000_000)
    assert to_levels(profile([0.5, 0.5, 0.5])).target == 0.5
    assert to_levels(profile([0.5, 0.5, 0.5])).step == 1_000_000
    assert default_step(SIZES, 0.7) == 1_000_000
    assert default_step({"a": 4096, "b": 16384}, 0.6) == int(0.5 * 0.4 / 8 * 4096)
    assert default_step({"a": 4}, 0.5) == 1


STEP = 1_000_000


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["layers.0.attn.q 2"], r"line 1: found 'layers\.0\.attn\.q 2'; allowed: `module: level` with a whole number"),
        ([WHOLE[0], "layers.0.attn.k: 1.5"], r"line 2: found 'layers\.0\.attn\.k: 1\.5'; allowed"),
        ([WHOLE[0], "", WHOLE[1]], r"line 2: found ''; allowed"),
        ([""], r"line 1: found ''"),
        ([*WHOLE, WHOLE[0]], r"line 4: layers\.0\.attn\.q stands in line 1 already; keep one of them"),
        (["layers.0.attn.qq: 1"], r"line 1: layers\.0\.attn\.qq is no site .*for example: layers\.0\.attn\.q, "),
        (WHOLE[:1], r"2 of 3 sites have no line, the first is layers\.0\.attn\.k; give a file of the same model"),
        (["layers.0.attn.k: 2"], r"level 2 is a sparsity of 1\.077 .*the 4,194,304 weights of .*k: -2 to 1"),
        (["layers.0.attn.k: -3"], r"level -3 is a sparsity of -0\.1153 at target 0\.6 and step 1,000,000"),
    ],
)
def test_bad_lines_are_told_with_their_number(lines, message):
    with pytest.raises(ConfigError, match=rf"^file\.txt: .*{message}") as caught:
        parse(*lines)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"target": 0.0}, "--target: 0 is not allowed; give the sparsity of level 0"),
        ({"target": 60.0}, "--target: 60 is not allowed"),
        ({"step": 0}, "--step: 0 is not allowed; give the weights between two levels, 1 or more"),
    ],
)
def test_grids_that_no_database_has(grid, message):
    with pytest.raises(ConfigError, match=message):
        parse(*WHOLE, **grid)
    with pytest.raises(ConfigError, match=message):
        to_levels(profile([0.5, 0.5, 0.5]), grid.get("target", 0.6), grid.get("step", 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "format is 'other', not 'sparsearch-evopress/1'; delete it and give --target"),
        ({"target": "0.6"}, "target or step is missing or no number"),
        ({"step": None}, "target or step is missing or no number"),
        ({"sizes": {"layers.0.attn.q": 1}}, "sizes are not those of the model"),
    ],
)
def test_sidecars_of_something_else(changes, message):
    with pytest.raises(ConfigError, match=rf"^beside\.json: {message}"):
        parse_sidecar(parse(*WHOLE).sidecar() | changes, "beside.json", SIZES)
    with pytest.raises(ConfigError, match="format is 'list'"):
        parse_sidecar([], "beside.json", SIZES)
