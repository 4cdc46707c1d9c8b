"""Imports between our packages run one way, downwards, so that each can be read and replaced alone."""

import ast
from pathlib import Path

import pytest

import sparsearch

ROOT = Path(sparsearch.__file__).parent
BASE = {"errors", "files", "seeds"}
ALLOWED = {
    "errors": set(),
    "seeds": set(),
    "files": {"errors"},
    "pruning": set(),
    "reference": set(),
    "objectives": set(),
    "search_spaces": set(),
    "model": BASE | {"reference"},
    "space": BASE | {"model.site"},
    "search": BASE | {"space"},
    "supernet": BASE | {"pruning", "space", "model"},
    "hardware": BASE | {"model", "space"},
    "runtime": BASE | {"hardware", "model", "space"},
    "evaluation": BASE | {"supernet", "model", "space"},
    "job": BASE | {"search", "evaluation", "hardware", "supernet", "pruning", "space", "model"},
    "report": BASE | {"job", "evaluation", "space", "model.site"},
    "export": BASE | {"runtime", "hardware", "report", "job", "supernet", "space", "model"},
    "testing": BASE | {"search", "space", "model.site"},
    "api": BASE | {"runtime", "job", "supernet", "pruning", "space", "model"},
    "cli": BASE | {"api", "report", "export", "job", "runtime", "hardware", "search", "pruning", "reference"},
    "__main__": {"cli"},
}
TORCH_FREE = ("space", "search", "testing")


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, late imports included, those for type checking too."""
    found = set()
    package = ["sparsearch", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            found.add(".".join([*base, *([node.module] if node.module else [])]))
    return found


def source_files() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def test_every_part_of_the_package_has_a_rule():
    assert {part_of(path) for path in source_files()} <= set(ALLOWED)


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_what_lies_below(path):
    part = part_of(path)
    for name in imported(path):
        if not name.startswith("sparsearch."):
            assert (name != "torch" and not name.startswith("torch.")) or part not in TORCH_FREE, (
                f"{part} is torch-free"
            )
            continue
        inner = name.removeprefix("sparsearch.")
        allowed = inner.split(".")[0] == part or any(
            inner == rule or inner.startswith(f"{rule}.") for rule in ALLOWED[part]
        )
        assert allowed, f"{path.relative_to(ROOT)} imports {name}; {part} may import {sorted(ALLOWED[part])}"
