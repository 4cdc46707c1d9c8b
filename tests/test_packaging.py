import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

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


def test_the_native_sources_are_shipped_and_built():
    folder = ROOT / "sparsearch" / "hardware" / "native"
    shipped = {
        file for pattern in SETUPTOOLS["package-data"]["sparsearch.hardware.native"] for file in folder.glob(pattern)
    }
    assert {file for file in folder.iterdir() if file.suffix in (".cpp", ".h", ".inc")} == shipped
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert all(f'"{file.stem if file.suffix == ".cpp" else file.name}"' in setup for file in shipped)


@pytest.mark.slow
def test_without_a_compiler_the_build_succeeds_and_leaves_the_library_out(tmp_path):
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path), "--build-temp", str(tmp_path)]
    missing = os.environ | {"CC": "/no/compiler", "CXX": "/no/compiler"}
    done = subprocess.run(command, cwd=ROOT, env=missing, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.so"))
