import json

import pytest
import torch

from sparsearch.cli.measure_command import busy_warning
from sparsearch.hardware import measure as measuring
from sparsearch.hardware.kernels.dense import Dense


class Fast(Dense):
    """Dense under another name."""

    name = "fast"


@pytest.fixture(autouse=True)
def _two_backends(monkeypatch):
    """A clock that moves by a second a look, and nothing to prepare."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(measuring, "device_clock", lambda device, threads: lambda: float(next(ticks)))
    monkeypatch.setattr(measuring, "CACHE_BYTES", 0)
    monkeypatch.setattr(measuring, "BACKENDS", {"dense": Dense(), "fast": Fast()})


@pytest.fixture
def measure(sparsearch, tiny_llama_folder, tmp_path):
    def call(*arguments, out=tmp_path / "m.json"):
        return sparsearch("measure", "--model", tiny_llama_folder, "--threads", 1, "--out", out, *arguments)

    return call


def test_it_plans_measures_writes_and_goes_on(measure, tmp_path):
    answer = measure("--quick")
    assert answer.code == 0, answer.err
    table = json.loads((tmp_path / "m.json").read_text())
    shapes = {tuple(cell["shape"]) for cell in table["cells"]}
    cells = len(shapes) * 2 * 4 * 2
    assert answer.err.startswith(f"plan: {cells} cells ({len(shapes)} of {len(shapes)} shapes left, tokens 1, 16, ")
    assert answer.out.splitlines()[-1].startswith(f"wrote {tmp_path / 'm.json'}: {cells} cells; 0 noisy ")
    assert "1 tokens, 0.5: dense 1000.0000 ms, 1.00 times as fast as dense" in answer.out
    again = measure("--quick")
    assert again.err.startswith(f"plan: 0 cells (0 of {len(shapes)} shapes left")
    assert "model: 0 of 2 token counts left, 4 models each" in again.err
    assert json.loads((tmp_path / "m.json").read_text()) == table


def test_the_whole_model_is_measured_and_told(measure, tmp_path):
    answer = measure("--quick", "--tokens", 1)
    assert "model: 1 of 1 token counts left, 4 models each, about 5 s each at most" in answer.err
    # Decoding 8 tokens between two looks at the clock.
    assert "1 tokens: dense 125 ms, 0.5 125 ms, 0.7 125 ms, 0.9 125 ms; predicted to within 0.0% (scale" in answer.out
    (model,) = json.loads((tmp_path / "m.json").read_text())["models"]
    assert [run["label"] for run in model["runs"]] == ["dense", "0.5", "0.7", "0.9"]


def test_json(measure, tmp_path):
    answer = measure("--quick", "--tokens", 2, "--json")
    found = json.loads(answer.out)
    assert found["cells"] == 2 * len(found["fastest"]) and found["noisy"] == 0
    assert {row["tokens"] for row in found["fastest"]} == {2}
    assert found["fingerprint"]["threads"] == 1
    assert [row["tokens"] for row in found["models"]] == [2]
    assert found["out"] == str(tmp_path / "m.json")


def test_a_busy_machine_is_told():
    assert busy_warning(1.0, 2) is None
    assert "load 4.0 on 2 cores); times will be wrong" in busy_warning(4.0, 2)


def test_threads_are_as_before(measure):
    before = torch.get_num_threads()
    assert measure("--quick", "--tokens", 1, "--threads", 2).code == 0
    assert torch.get_num_threads() == before


def test_another_number_of_threads_does_not_go_on(measure):
    measure("--quick", "--tokens", 1)
    answer = measure("--quick", "--tokens", 1, "--threads", 2)
    assert answer.code == 2 and "threads is 1 there and 2 now; choose another file" in answer.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "tpu"), "--device: 'tpu'; allowed: cpu, cuda"),
        (("--threads", 0), "--threads: 0; allowed: 1 or more"),
        (("--tokens", 0), "--tokens: 0; allowed: numbers from 1, each once"),
        (("--tokens", 4, "--tokens", 4), "--tokens: 4, 4; allowed"),
    ],
)
def test_bad_options_are_refused(measure, arguments, message, tmp_path):
    answer = measure(*arguments)
    assert answer.code == 2 and message in answer.err
    assert not (tmp_path / "m.json").exists()


def test_a_folder_is_refused(measure, tmp_path):
    answer = measure("--quick", out=tmp_path)
    assert answer.code == 2 and "is a folder; give the name of a file" in answer.err
