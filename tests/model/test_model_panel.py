import numpy as np
import pytest
import torch

from sparsearch.errors import ConfigError
from sparsearch.model.load import load_tokenizer
from sparsearch.model.panel import Panel, make_panels
from sparsearch.model.text import Documents, load_documents

SIZES = {"calibration": 6, "search": 9, "heldout": 5}


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("reference")


@pytest.fixture(scope="module")
def text():
    """Every document of one half repeats one letter, so that a token tells its half."""
    return Documents(("a\n" * 3000, "b\n" * 3000), ("c\n" * 3000,), "letters")


def rows(panel):
    return [tuple(row) for row in panel.items["input_ids"].tolist()]


def numbered(train=40, heldout=40, length=50):
    """Token documents in which every id is unique."""
    ids = np.arange((train + heldout) * length).reshape(-1, length)
    return Documents(tuple(ids[:train]), tuple(ids[train:]), "numbers")


def test_panels_have_the_asked_form(tokenizer):
    panels = make_panels(load_documents(), tokenizer, 32, SIZES, seed=0)
    for role, size in SIZES.items():
        panel = getattr(panels, role)
        assert len(panel) == size and panel.length == 32
        assert panel.items["input_ids"].dtype == torch.int64
        assert panel.items["input_ids"].shape == (size, 32)


def test_no_token_is_in_two_sequences():
    panels = make_panels(numbered(), None, 30, SIZES, seed=3)
    ids = torch.cat([p.items["input_ids"].flatten() for p in (panels.calibration, panels.search, panels.heldout)])
    assert len(ids.unique()) == len(ids)
    assert panels.calibration.items["input_ids"].max() < 2000 and panels.search.items["input_ids"].max() < 2000
    assert panels.heldout.items["input_ids"].min() >= 2000


def test_held_out_text_never_steers(tokenizer, text):
    panels = make_panels(text, tokenizer, 20, SIZES, seed=0)
    assert "c" not in tokenizer.decode(panels.calibration.items["input_ids"].flatten())
    assert "c" not in tokenizer.decode(panels.search.items["input_ids"].flatten())
    heldout = tokenizer.decode(panels.heldout.items["input_ids"].flatten(), skip_special_tokens=True)
    assert set(heldout) == {"c", "\n"}


def test_documents_are_packed_with_the_end_token_between_them(tokenizer):
    documents = Documents(("one fish", "two fish", "red fish"), ("blue fish",), "fish")
    panels = make_panels(documents, tokenizer, 3, {"calibration": 2, "search": 1, "heldout": 1}, seed=0)
    end = tokenizer.eos_token_id
    stream = torch.cat([panels.calibration.items["input_ids"], panels.search.items["input_ids"]]).flatten().tolist()
    encoded = [tokenizer(d, add_special_tokens=False)["input_ids"] for d in documents.train]
    starts = [ids for ids in encoded if stream[: len(ids) + 1] == [*ids, end]]
    assert len(starts) == 1


def test_the_seed_decides(tokenizer):
    documents = load_documents()
    first, again, other = (make_panels(documents, tokenizer, 32, SIZES, seed) for seed in (1, 1, 2))
    assert first.calibration.fingerprint == again.calibration.fingerprint
    assert first.heldout.fingerprint == again.heldout.fingerprint
    assert first.calibration.fingerprint != other.calibration.fingerprint
    assert first.heldout.fingerprint != other.heldout.fingerprint


def test_calibration_does_not_change_with_the_other_sizes(tokenizer):
    documents = load_documents()
    small = make_panels(documents, tokenizer, 32, SIZES, seed=0)
    large = make_panels(documents, tokenizer, 32, {**SIZES, "search": 40, "heldout": 40}, seed=0)
    assert small.calibration.fingerprint == large.calibration.fingerprint
    assert rows(large.heldout)[:5] == rows(small.heldout)


def test_a_panel_draws_from_many_documents(tokenizer, text):
    panels = make_panels(text, tokenizer, 20, {**SIZES, "calibration": 64}, seed=0)
    decoded = tokenizer.decode(panels.calibration.items["input_ids"].flatten())
    assert "a" in decoded and "b" in decoded


def test_only_what_is_needed_is_tokenised(tokenizer):
    class Counting:
        eos_token_id = 1

        def __init__(self):
            self.characters = 0

        def __call__(self, texts, **options):
            self.characters += sum(map(len, texts))
            return tokenizer(texts, **options)

    counting, documents = Counting(), load_documents()
    make_panels(documents, counting, 32, SIZES, seed=0)
    assert counting.characters < 60_000


@pytest.mark.parametrize("half", ["train", "heldout"])
def test_too_short_text_says_how_much_there_is(half):
    sizes = {"calibration": 2, "search": 2, "heldout": 2}
    documents = numbered(train=2 if half == "train" else 9, heldout=1 if half == "heldout" else 9)
    expected = {
        "train": "4 sequences of 40 .* train half of numbers, which holds 2 \\(100 tokens",
        "heldout": "holds 1 ",
    }
    with pytest.raises(ConfigError, match=expected[half]):
        make_panels(documents, None, 40, sizes, seed=0)


def test_bad_requests_are_refused(tokenizer, text):
    with pytest.raises(ConfigError, match="have to be positive"):
        make_panels(text, tokenizer, 0, SIZES, seed=0)
    with pytest.raises(ConfigError, match="have to be positive"):
        make_panels(text, tokenizer, 8, {**SIZES, "search": -1}, seed=0)
    with pytest.raises(ConfigError, match="text needs the model's tokenizer"):
        make_panels(text, None, 8, SIZES, seed=0)
    with pytest.raises(ConfigError, match=r"holds the id \d+, but the model's tokenizer knows 2048"):
        make_panels(numbered(), tokenizer, 30, SIZES, seed=0)


def test_an_empty_panel_is_allowed(tokenizer, text):
    panels = make_panels(text, tokenizer, 8, {**SIZES, "search": 0}, seed=0)
    assert len(panels.search) == 0 and panels.search.length == 8


def test_batches_follow_the_indices():
    panel = Panel({"input_ids": torch.arange(12).reshape(4, 3), "mask": torch.arange(4)})
    batch = panel.batch([2, 0, 2])
    assert batch["input_ids"].tolist() == [[6, 7, 8], [0, 1, 2], [6, 7, 8]]
    assert batch["mask"].tolist() == [2, 0, 2]
    assert panel.batch(slice(1, 3))["mask"].tolist() == [1, 2]
    assert panel.batch(np.array([3]))["mask"].tolist() == [3]


def test_items_may_be_anything_that_a_forward_takes():
    panel = Panel({"pixel_values": torch.zeros(4, 3, 8, 8)})
    assert (len(panel), panel.length) == (4, 1)
    with pytest.raises(ConfigError, match="same number of sequences"):
        Panel({"input_ids": torch.zeros(4, 3), "mask": torch.zeros(3, 3)})


def test_fingerprints_follow_content_shape_and_name():
    base = Panel({"input_ids": torch.arange(12).reshape(4, 3)})
    same = Panel({"input_ids": torch.arange(12).reshape(3, 4).reshape(4, 3).clone()})
    assert base.fingerprint == same.fingerprint
    others = [
        Panel({"input_ids": torch.arange(12).reshape(3, 4)}),
        Panel({"input_ids": torch.arange(1, 13).reshape(4, 3)}),
        Panel({"inputs": torch.arange(12).reshape(4, 3)}),
        Panel({"input_ids": torch.arange(12).reshape(4, 3).int()}),
    ]
    assert base.fingerprint not in {other.fingerprint for other in others}
