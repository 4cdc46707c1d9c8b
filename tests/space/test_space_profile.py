import json

import pytest
import yaml

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.space import Allocation, Budget, Profile
from sparsearch.testing import quadratic_problem


@pytest.fixture
def space():
    return quadratic_problem(levels=[0.25, "2:4", 1e-5, 0.9]).problem.space


@pytest.fixture
def profile(space):
    levels = [index % count for index, count in enumerate(space.counts)]
    return Profile.of(
        space, Allocation.of(levels), budget={"sparsity": "0.6"},
        figures={"heldout": {"kl": 0.125, "tiny": 1e-17}, "note": "Ü: yes"}, provenance={"seed": 3, "model": "no"},
    )  # fmt: skip


def test_a_profile_states_what_it_costs(space, profile):
    allocation = profile.allocation(space)
    assert profile.sparsity == pytest.approx(space.sparsity(allocation))
    for resource in space.resources:
        assert profile.resources[resource] == {
            "dense": space.cost(resource, space.dense()),
            "profile": space.cost(resource, allocation),
        }


@pytest.mark.parametrize("suffix", ["json", "yaml", "yml"])
def test_round_trip(space, profile, tmp_path, suffix):
    path = tmp_path / f"best.{suffix}"
    profile.save(path)
    loaded = Profile.load(path)
    assert loaded == profile
    assert loaded.allocation(space) == profile.allocation(space)
    first = path.read_bytes()
    loaded.save(path)
    assert path.read_bytes() == first


def test_json_and_yaml_say_the_same(profile, tmp_path):
    profile.save(tmp_path / "a.json")
    profile.save(tmp_path / "a.yaml")
    assert json.loads((tmp_path / "a.json").read_text()) == yaml.safe_load((tmp_path / "a.yaml").read_text())


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_figures_that_are_not_numbers_are_not_written(space, tmp_path, suffix):
    profile = Profile.of(space, space.dense(), figures={"kl": float("nan")})
    with pytest.raises(ValueError):
        profile.save(tmp_path / f"best.{suffix}")
    assert not list(tmp_path.iterdir())


def test_a_profile_of_another_space_is_refused(profile):
    other = quadratic_problem(blocks=3, levels=[0.25, "2:4", 1e-5, 0.9]).problem.space
    with pytest.raises(ConfigError, match=r"site layers\.2\.\S+ is missing from the profile"):
        profile.allocation(other)
    fewer = quadratic_problem(blocks=1, levels=[0.25, "2:4", 1e-5, 0.9]).problem.space
    with pytest.raises(ConfigError, match=r"site layers\.1\.\S+ is missing from the search space"):
        profile.allocation(fewer)
    coarser = quadratic_problem(Budget(sparsity=0.2), levels=[0.25]).problem.space
    with pytest.raises(ConfigError, match=r"has level '\S+'; the space offers dense, 0\.25"):
        profile.allocation(coarser)


def broken(profile, **changes):
    content = profile.to_dict()
    content["sites"] = [dict(site) for site in content["sites"]]
    content["sites"][1] |= changes
    return content


@pytest.mark.parametrize("suffix", ["json", "yaml"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": 0.5}, r"sites\[1\]\.level is missing or of the wrong type"),
        ({"name": None}, r"sites\[1\]\.name is missing"),
        ({"block": True}, r"sites\[1\]\.block is missing or of the wrong type"),
        ({"shape": ["4", 4]}, r"sites\[1\]\.shape is .*allowed: a list of positive integers"),
        ({"shape": []}, r"sites\[1\]\.shape"),
        ({"shape": [4, -4]}, r"sites\[1\]\.shape"),
        ({"sparsity": 1.5}, r"sites\[1\]\.sparsity is 1\.5; allowed: 0 to 1"),
        ({"name": "layers.0.self_attn.q_proj"}, r"site layers\.0\.self_attn\.q_proj is listed twice"),
    ],
)
def test_bad_sites_are_named(profile, tmp_path, suffix, changes, message):
    path = tmp_path / f"bad.{suffix}"
    content = broken(profile, **changes)
    path.write_text(json.dumps(content) if suffix == "json" else yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=message) as error:
        Profile.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "format is 'list'"),
        ({"format": "other/1"}, "format is 'other/1', not 'sparsearch-profile/1'"),
        ({"format": "sparsearch-profile/1"}, "sites is missing or empty"),
        ({"format": "sparsearch-profile/1", "sites": {}}, "sites is missing or empty"),
        ({"format": "sparsearch-profile/1", "sites": [3]}, r"sites\[0\]\.name is missing"),
    ],
)
def test_files_that_are_no_profile_are_named(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=message):
        Profile.load(path)


def test_parts_of_the_wrong_type_are_named(profile, tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(profile.to_dict() | {"figures": [1]}))
    with pytest.raises(ConfigError, match="figures is list, not a mapping"):
        Profile.load(path)


@pytest.mark.parametrize("name", ["best.json", "best.yaml"])
def test_missing_and_damaged_files_are_named_in_one_line(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(ResourceError, match="does not exist"):
        Profile.load(path)
    for damage in (b"{\n a: [\n", b"\xff\xfe\x00", b'{"format": "sparsearch-profile/1", "si'):
        path.write_bytes(damage)
        with pytest.raises(ResourceError, match="is not valid") as error:
            Profile.load(path)
        assert "\n" not in str(error.value)


def test_yaml_cannot_make_objects(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text("!!python/object/apply:os.getcwd []\n")
    with pytest.raises(ResourceError, match="is not valid YAML"):
        Profile.load(path)
