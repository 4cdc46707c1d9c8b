"""What the README shows is run."""

import re
from pathlib import Path

import pytest
import yaml

from sparsearch.job.config import parse_config

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"50\.\d% of the weights are gone, model\.layers\.0\.self_attn\.q_proj is at level \S+", lines[0]
    )
    assert lines[1:] == ["0.0", "True"]


@pytest.mark.parametrize("text", blocks("yaml"))
def test_the_job_example_is_valid(text):
    assert parse_config(yaml.safe_load(text)).seed == 0


def test_every_command_that_the_readme_names_exists():
    from sparsearch.cli.main import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    named = set(re.findall(r"`sparsearch (\w+)", README.read_text(encoding="utf-8")))
    assert named <= known
