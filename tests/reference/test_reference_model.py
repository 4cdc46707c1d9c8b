import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sparsearch.model.load import load_model, load_tokenizer
from sparsearch.model.panel import make_panels
from sparsearch.model.sites import check_finite, find_sites, uncovered_fraction
from sparsearch.model.text import load_documents
from sparsearch.reference import reference_path
from sparsearch.reference.train import learning_rate, reference_config, sequences


@pytest.fixture(scope="module")
def model():
    return load_model("reference", device="cpu")


def test_it_loads_like_any_checkpoint():
    module = AutoModelForCausalLM.from_pretrained(reference_path())
    assert sum(p.numel() for p in module.parameters()) == 2_477_184
    assert module.dtype == torch.float16
    assert len(AutoTokenizer.from_pretrained(reference_path())) == 2048


def test_it_has_84_sites_in_12_blocks(model):
    sites = find_sites(model)
    assert len(sites) == 84 and len(model.blocks) == 12
    assert uncovered_fraction(model, sites) == 0
    check_finite(model)


def test_no_name_means_the_reference(model):
    assert load_model(None).name == model.name == "reference"


def test_it_predicts_builtin_held_out_text(model):
    panels = make_panels(
        load_documents(), load_tokenizer(None), 128, {"calibration": 0, "search": 0, "heldout": 16}, seed=0
    )
    batch = panels.heldout.batch(slice(None))
    with torch.no_grad():
        loss = model.module(**batch, labels=batch["input_ids"]).loss.item()
    assert 10 < math.exp(loss) < 60  # far from the 2048 of a uniform guess


def test_the_training_script_describes_the_committed_model(model):
    expected = reference_config().to_dict()
    committed = model.module.config.to_dict()
    for field in (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_key_value_heads",
        "vocab_size",
    ):
        assert committed[field] == expected[field]


def test_the_learning_rate_warms_up_and_decays():
    rates = [learning_rate(1000, done) for done in (0.0, 0.5, 0.8, 1.0)]
    assert rates[0] == rates[1] > rates[2] > rates[3] > 0
    assert learning_rate(0, 0.0) == pytest.approx(rates[0] / 100)


def test_sequences_are_windows():
    windows = sequences(torch.arange(1000).numpy(), torch.tensor([0, 7]).numpy())
    assert windows.shape == (2, 256) and windows[1, 0] == 7 and windows.dtype == torch.int64
