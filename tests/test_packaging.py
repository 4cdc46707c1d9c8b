import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_the_listed_packages_are_the_folders_that_hold_code():
    inner = {file.parent.relative_to(ROOT) for file in (ROOT / "sparsearch").rglob("*.py")}
    folders = {".".join(folder.parts) for folder in inner}
    assert set(SETUPTOOLS["packages"]) == folders | {"sparsearch.objectives", "sparsearch.search_spaces"}


def test_top_level_data_packages_lie_where_they_are_mapped():
    for package, folder in SETUPTOOLS["package-dir"].items():
        assert (ROOT / folder).is_dir()
        assert package == "sparsearch" or list((ROOT / folder).glob("*.yaml"))


def test_the_data_that_is_read_at_run_time_is_shipped():
    assert SETUPTOOLS["package-data"]["sparsearch.search_spaces"] == ["*.yaml"]
    assert SETUPTOOLS["package-data"]["sparsearch.objectives"] == ["*.yaml"]
