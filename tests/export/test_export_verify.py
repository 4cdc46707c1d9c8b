"""Verification: twice in a really fresh process, else with the child's code called in this one."""

import pytest
import torch
from safetensors.torch import load_file, save_file

import sparsearch.export.verify as verify
from sparsearch.errors import ResourceError
from sparsearch.export.verify import forward_logits, verify_export
from sparsearch.model.sites import site_weight

INPUT_IDS = torch.arange(48).reshape(3, 16) % 64


@pytest.fixture
def exported(pruned, tmp_path):
    """The folder and the arguments with which it verifies."""
    subject = pruned("llama")
    subject.export(tmp_path / "out")
    for site, weight in subject.weights:
        site_weight(subject.model.module, site).copy_(weight)
    expected = forward_logits(subject.model.module, INPUT_IDS)
    arguments = {"input_ids": INPUT_IDS, "expected_logits": expected, "profile": subject.profile}
    return tmp_path / "out", arguments | {"device": "cpu", "dtype": torch.float32}


@pytest.fixture
def in_process(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(verify, "_run_child", lambda folder, out: verify._child(folder))
    yield
    torch.set_num_threads(threads)


def tamper(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_a_good_export_verifies_in_a_fresh_process(exported):
    out, arguments = exported
    result = verify_export(out, **arguments)
    assert result.max_difference == 0.0
    assert result.sparsity == pytest.approx(arguments["profile"].sparsity, abs=0.01)
    for site in arguments["profile"].sites:
        size = site["shape"][0] * site["shape"][1]
        assert result.zeros[site["name"]] >= round(site["sparsity"] * size)


def test_a_truncated_checkpoint_is_told_in_one_line(exported):
    out, arguments = exported
    path = out / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ResourceError, match="does not load in a fresh process") as error:
        verify_export(out, **arguments)
    assert "\n" not in str(error.value)


def test_a_changed_weight_is_found(exported, in_process):
    out, arguments = exported
    tamper(out, lambda tensors: tensors["model.norm.weight"].mul_(1.01))
    with pytest.raises(ResourceError, match="computes other logits"):
        verify_export(out, **arguments)
    assert 0 < verify_export(out, **arguments, tolerance=1.0).max_difference < 1.0


def test_nan_logits_never_pass(exported, in_process):
    out, arguments = exported
    arguments["expected_logits"][1, 2, 3] = torch.nan
    with pytest.raises(ResourceError, match="largest difference nan"):
        verify_export(out, **arguments, tolerance=10.0)


def test_filled_zeros_are_found(exported, in_process):
    out, arguments = exported
    name = "model.layers.1.mlp.gate_proj"
    tamper(out, lambda tensors: tensors[f"{name}.weight"].masked_fill_(tensors[f"{name}.weight"] == 0, 6e-8))
    with pytest.raises(ResourceError, match=f"{name} in .* has 0 zeros, the profile removes"):
        verify_export(out, **arguments)


def test_negative_zeros_are_found(exported, in_process):
    out, arguments = exported
    name = "model.layers.1.mlp.gate_proj"
    tamper(out, lambda tensors: tensors[f"{name}.weight"].masked_fill_(tensors[f"{name}.weight"] == 0, -0.0))
    with pytest.raises(ResourceError, match=r"zeros stored as -0\.0"):
        verify_export(out, **arguments)


def test_missing_weights_are_found(exported, in_process):
    out, arguments = exported
    tamper(out, lambda tensors: tensors.pop("model.layers.0.mlp.down_proj.weight"))
    with pytest.raises(ResourceError, match=r"lacks 1 weights, first model\.layers\.0\.mlp\.down_proj"):
        verify_export(out, **arguments)


def test_other_inputs_are_refused(exported, in_process):
    out, arguments = exported
    with pytest.raises(ResourceError, match=r"returns logits \[2, 16, 64\]"):
        verify_export(out, **arguments | {"input_ids": INPUT_IDS[:2]})
