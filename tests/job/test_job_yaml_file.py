import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsearch.errors import ConfigError
from sparsearch.job.yaml_file import dump_yaml, parse_mapping, parse_yaml, read_mapping


@pytest.mark.parametrize(
    ("text", "value"),
    [("2:4", "2:4"), ("1e-3", 0.001), ("3.1e9", 3.1e9), ("no", "no"), ("on", "on"), ("010", 10), (".5", 0.5),
     ("2024-01-01", "2024-01-01"), ("true", True), ("~", None), ("-7", -7), ("1_000", "1_000"), ("'5'", "5")],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text, value):
    assert parse_yaml(text, "t") == value
    assert type(parse_yaml(text, "t")) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"^job\.yaml: line 3, column 1: key 'a' stands twice; keep one$"),
        ("a: {b: 1, b: 2}\n", r"line 1, column 11: key 'b' stands twice"),
        ("a: [1, 2\nb: 3\n", r"^job\.yaml: line 2, column \d+: "),
        ("a: &x [1]\nb: *x\n", r"line 2, column 4: aliases are not supported"),
        ("1: a\n", r"line 1, column 1: a key that is not text; put it in quotes"),
        ("a: !!python/object:os.system {}\n", r"the tag .* is not supported"),
        ("a: !!timestamp 2024-01-01\n", r"the tag .* is not supported"),
        ("a: 1e999\n", r"line 1, column 4: 1e999 is too large"),
        ("a: " + "9" * 5000 + "\n", "not valid YAML"),
        ("a: " + "[" * 1000, "nested too deeply"),
        ("a: \x01\n", "not valid YAML"),
        ("", r"^job\.yaml: the file is empty"),
        ("# only a comment\n", r"^job\.yaml: the file is empty"),
        ("- a\n- b\n", r"^job\.yaml: holds a list, not a mapping"),
        ("word\n", r"^job\.yaml: holds a single value, not a mapping"),
        ("a: 1\n---\nb: 2\n", r"line 2, column 1"),
    ],
)
def test_bad_yaml_is_told_in_one_line(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse_mapping(text, "job.yaml")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"a: \xff\xfe")
    for name, message in (
        ("absent.yaml", "no such file"),
        ("binary.yaml", "not UTF-8"),
        ("", "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_mapping(tmp_path / name)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]))
    | st.sampled_from(["2:4", "1e9", "3.1e9", ".5", "no", "010", "0x1F", "2024-01-01", "~", "", "0.7x", "1e5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc1:.e", max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(plain)
def test_what_is_dumped_loads_as_the_same(value):
    assert parse_yaml(dump_yaml(value), "t") == value


@given(st.text("0123456789:.eE+-xnoyestrue ", max_size=8))
def test_dumped_text_is_text_to_other_readers_too(text):
    assert yaml.safe_load(dump_yaml({"a": text})) == {"a": text}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_keep_every_bit(value):
    assert math.copysign(1, parse_yaml(dump_yaml([value]), "t")[0]) == math.copysign(1, value)
    assert parse_yaml(dump_yaml([value]), "t") == [value]
