import pytest

from sparsearch.errors import ConfigError
from sparsearch.job.config import parse_config
from sparsearch.job.presets import list_presets, load_preset
from sparsearch.job.sections import ObjectiveConfig, SpaceConfig
from sparsearch.pruning import PRUNER_NAMES
from sparsearch.space import Budget


def test_the_shipped_presets_are_listed():
    assert list_presets("search_spaces") == ["nm", "unstructured"]
    assert list_presets("objectives") == ["hidden", "kl", "perplexity", "trace"]


@pytest.mark.parametrize("name", list_presets("search_spaces"))
def test_search_spaces_validate(name):
    space = SpaceConfig.model_validate(load_preset("search_spaces", name))
    assert space.grid[0].is_dense
    assert len(space.grid) > 1
    assert space.pruner.name in PRUNER_NAMES


@pytest.mark.parametrize("name", list_presets("objectives"))
def test_objectives_validate_and_are_what_their_name_says(name):
    assert ObjectiveConfig.model_validate(load_preset("objectives", name)).objective == name


@pytest.mark.parametrize("kind", ["search_spaces", "objectives"])
def test_presets_write_out_every_field_and_agree_with_the_defaults(kind):
    section = {"search_spaces": SpaceConfig, "objectives": ObjectiveConfig}[kind]
    default = {"search_spaces": "unstructured", "objectives": "kl"}[kind]
    content = load_preset(kind, default)
    assert section.model_fields.keys() - content.keys() <= {"profile"}
    assert section.model_validate(content) == section()


def test_the_default_grid_is_uniform_in_sparsity():
    grid = SpaceConfig().grid
    assert [level.sparsity for level in grid] == [0.0, *(round(0.05 * step, 2) for step in range(2, 20))]


def test_unknown_names_get_a_hint():
    with pytest.raises(ConfigError, match=r"'unstructurd' is no preset.*did you mean 'unstructured'"):
        load_preset("search_spaces", "unstructurd")


def test_a_preset_may_be_a_file_whose_paths_start_from_its_folder(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "space.yaml").write_text("propagation: allocation\nprofile: best.json\nlevels: [2:4]\n")
    config = parse_config({"space": "mine/space.yaml", "budget": {"sparsity": 0.5}}, str(tmp_path / "job.yaml"))
    assert config.space.profile == tmp_path / "mine" / "best.json"
    assert config.space.levels == ("2:4",)


def test_errors_in_a_preset_name_its_file(tmp_path):
    (tmp_path / "space.yaml").write_text("levls: [0.5]\n")
    job = {"space": "./space.yaml", "budget": {"sparsity": 0.5}}
    with pytest.raises(ConfigError, match=r"space\.yaml: levls: unknown key; .*did you mean 'levels'"):
        parse_config(job, str(tmp_path / "job.yaml"))
    with pytest.raises(ConfigError, match=r"job\.yaml: space: .*other\.yaml: no such file"):
        parse_config(job | {"space": "other.yaml"}, str(tmp_path / "job.yaml"))


def test_budgets_are_those_of_the_search_space_and_the_measured_one():
    from sparsearch.job.whole_job import BUDGETS
    from sparsearch.model.site import Site
    from sparsearch.space import level_grid, linear_space

    space = linear_space([Site("a", "a", "a", 0, (4, 4))], level_grid([0.5]), itemsize=2)
    assert set(BUDGETS) == {"sparsity", "latency", *space.resources}
    assert Budget(**{name: "0.9x" for name in space.resources}).limits(space)
