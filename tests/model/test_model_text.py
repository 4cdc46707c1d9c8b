import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.model.text import load_documents, split_blocks


def paragraphs(count):
    return "\n\n".join(f"Paragraph {i} speaks of the number {i * i} at some length." for i in range(count))


@given(st.text(st.characters(codec="utf-8"), max_size=300), st.integers(1, 40))
def test_blocks_join_to_the_text_and_stay_short(text, size):
    blocks = split_blocks(text, size)
    assert "".join(blocks) == text
    assert all(0 < len(block) < 3 * size for block in blocks)
    assert all(len(block) >= size for block in blocks[:-1])


def test_blocks_end_at_blank_lines():
    blocks = split_blocks(paragraphs(100), 200)
    assert all(block.endswith("\n\n") for block in blocks[:-1])


def test_builtin_documents_are_many_and_disjoint():
    documents = load_documents("builtin")
    assert not set(documents.train) & set(documents.heldout)
    for half in (documents.train, documents.heldout):
        assert len(half) > 50 and sum(map(len, half)) > 300_000


def test_builtin_documents_are_the_same_in_another_process_and_import_no_documented_module():
    program = (
        "import sys, hashlib; from sparsearch.model.text import load_documents; before = set(sys.modules);"
        "d = load_documents(); print(hashlib.md5(repr((d.train, d.heldout)).encode()).hexdigest(),"
        "*sorted(set(sys.modules) - before))"
    )
    digests = set()
    for hash_seed in ("1", "2"):
        output = subprocess.check_output(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": hash_seed}, text=True
        ).split()
        digests.add(output[0])
        assert all(name.startswith(("pydoc_data", "_sysconfigdata")) for name in output[1:])
    assert len(digests) == 1


def test_text_files_split_into_equal_disjoint_halves(tmp_path):
    (tmp_path / "a.txt").write_text(paragraphs(300))
    (tmp_path / "b.txt").write_text(paragraphs(300))  # a repetition must not reach the other half
    documents = load_documents({"files": [tmp_path / "a.txt", str(tmp_path / "b.txt")]})
    assert abs(len(documents.train) - len(documents.heldout)) <= 1
    whole = load_documents({"files": [tmp_path / "a.txt"]})
    text = (tmp_path / "a.txt").read_text()
    assert sorted(map(text.index, whole.train + whole.heldout))[0] == 0
    assert sum(map(len, whole.train + whole.heldout)) == len(text)
    assert not set(documents.train) & set(documents.heldout)


@pytest.mark.parametrize("ending", ["npy", "safetensors", "txt"])
def test_token_files_keep_every_token_once(tmp_path, ending):
    tokens = np.arange(20_000, dtype=np.int32)
    path = tmp_path / f"tokens.{ending}"
    if ending == "npy":
        np.save(path, tokens)
    elif ending == "safetensors":
        save_file({"tokens": tokens}, path)
    else:
        path.write_text(" ".join(map(str, tokens)))
    documents = load_documents({"tokens": path})
    together = np.concatenate([*documents.train, *documents.heldout])
    assert together.dtype == np.int64
    assert np.array_equal(np.sort(together), tokens)
    assert abs(len(np.concatenate(documents.train)) - 10_000) < 2_500


def test_rows_of_a_token_matrix_are_documents(tmp_path):
    np.save(tmp_path / "t.npy", np.arange(600).reshape(10, 60))
    documents = load_documents({"tokens": tmp_path / "t.npy"})
    assert len(documents.train) == len(documents.heldout) == 5
    assert all(len(row) == 60 and row[0] % 60 == 0 for row in documents.train + documents.heldout)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("bulletin", "data: 'bulletin' is unknown"),
        ({}, r"exactly one of files, dataset and tokens \(found none\)"),
        ({"files": ["x"], "tokens": "y"}, r"found files, tokens"),
        ({"file": ["x"]}, r"data.file: unknown field; .*did you mean 'files'"),
        ({"files": ["x"], "column": "text"}, r"data.column: belongs to data.dataset"),
        ({"files": ["/no/such.txt"]}, r"data.files: /no/such.txt does not exist"),
        ({"tokens": "/no/such.npy"}, r"data.tokens: /no/such.npy does not exist"),
    ],
)
def test_bad_forms_are_named(data, message):
    with pytest.raises(ConfigError, match=message):
        load_documents(data)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b" \n ", "is empty"),
        ("a.txt", b"short", "is too short"),
        ("a.txt", b"caf\xe9 \xff", "is not UTF-8 text"),
    ],
)
def test_bad_text_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_documents({"files": [tmp_path / name]})


def test_bad_token_files_are_named(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "float.npy", np.ones(4))
    np.save(tmp_path / "none.npy", np.ones(0, dtype=int))
    np.save(tmp_path / "negative.npy", np.array([1, -1]))
    save_file({"a": np.ones(3, dtype=int), "b": np.ones(3, dtype=int)}, tmp_path / "two.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x00\x01")
    (tmp_path / "words.txt").write_text("1 2 three")
    (tmp_path / "tokens.bin").write_bytes(b"1")
    messages = {
        "objects.npy": "cannot be read",
        "float.npy": "holds float64 of shape",
        "none.npy": "holds no token ids",
        "negative.npy": "holds negative token ids",
        "two.safetensors": "holds 2 tensors",
        "cut.safetensors": "cannot be read",
        "words.txt": "cannot be read as token ids",
        "tokens.bin": "ends in '.bin'",
    }
    for name, message in messages.items():
        with pytest.raises(ConfigError, match=rf"data.tokens: .*{name} .*{message}|{message}"):
            load_documents({"tokens": tmp_path / name})


class FakeDatasets:
    """What of `datasets` is used: one call, columns by name."""

    def __init__(self, **columns):
        self.columns = columns
        self.column_names = list(columns)

    def load_dataset(self, name, subset, split):
        if name == "missing":
            raise RuntimeError("not on the hub\nat all")
        self.asked = (name, subset, split)
        return self

    def __getitem__(self, column):
        return self.columns[column]


def test_dataset_rows_become_documents(monkeypatch):
    lines = [f"line {i}\n" for i in range(3000)]
    fake = FakeDatasets(text=lines, label=list(range(3000)))
    monkeypatch.setitem(sys.modules, "datasets", fake)
    documents = load_documents({"dataset": "some/set", "subset": "raw"})
    assert fake.asked == ("some/set", "raw", "train")
    together = "".join(documents.train + documents.heldout)
    assert sorted(together.splitlines()) == sorted(line.strip() for line in lines)
    with pytest.raises(ConfigError, match=r"data.column: .* no column 'body'; allowed: label, text"):
        load_documents({"dataset": "some/set", "column": "body"})
    with pytest.raises(ConfigError, match=r"holds int, not text"):
        load_documents({"dataset": "some/set", "column": "label"})
    with pytest.raises(ResourceError, match=r"cannot load missing \(not on the hub\)"):
        load_documents({"dataset": "missing"})


def test_without_datasets_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ResourceError, match=r"pip install 'sparsearch\[hub\]'"):
        load_documents({"dataset": "some/set"})
