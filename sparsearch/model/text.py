"""Text for panels: documents from the Python installation, local files, a hub dataset or token files.

Every source is split into two halves that share no document: one that may steer (calibration, search) and one
that is held out.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from sparsearch.errors import ConfigError, ResourceError, did_you_mean

Document = str | np.ndarray

DATASET_FIELDS = ("dataset", "split", "subset", "column")
BLOCK_CHARACTERS = (500, 16_000)
BLOCK_TOKENS = (256, 4096)
BLOCKS = 16
DOCSTRING_OWNERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, eq=False)
class Documents:
    """Two halves without a document in common, each in a fixed order.

    Attributes:
        train: what panels that steer are made of: text, or int64 token ids `[tokens]`.
        heldout: what only measures.
        source: what messages call it.
    """

    train: tuple[Document, ...]
    heldout: tuple[Document, ...]
    source: str


def load_documents(data: str | Mapping[str, Any] = "builtin") -> Documents:
    """The documents that `data` names.

    Args:
        data: `"builtin"` (documentation of the Python installation), or a mapping with exactly one of
            `files: [paths]` (UTF-8 text), `dataset: name` (hub or folder, with `split`, `subset` and
            `column`) or `tokens: path` (.npy, .safetensors with one tensor, or .txt with ids; a matrix
            is one document a row).

    Raises:
        ConfigError: the form is wrong, or a file is missing, empty or unreadable.
        ResourceError: `datasets` is not installed or cannot load the set.
    """
    if data == "builtin":
        return _builtin()
    if not isinstance(data, Mapping):
        raise ConfigError(f"data: {data!r} is unknown; give builtin or a mapping with files, dataset or tokens")
    allowed = ("files", "tokens", *DATASET_FIELDS)
    for field in data:
        if field not in allowed:
            raise ConfigError(f"data.{field}: unknown field; {did_you_mean(str(field), allowed)}")
    given = [field for field in ("files", "dataset", "tokens") if data.get(field)]
    if len(given) != 1:
        raise ConfigError(f"data: give exactly one of files, dataset and tokens (found {', '.join(given) or 'none'})")
    stray = [field for field in DATASET_FIELDS[1:] if data.get(field) and given != ["dataset"]]
    if stray:
        raise ConfigError(f"data.{stray[0]}: belongs to data.dataset, not to data.{given[0]}; leave it out")
    if given == ["files"]:
        return _from_files(data["files"])
    if given == ["tokens"]:
        return _from_tokens(Path(data["tokens"]).expanduser())
    return _from_dataset(data["dataset"], data.get("split"), data.get("subset"), data.get("column"))


def split_blocks(text: str, size: int) -> list[str]:
    """`text` cut into consecutive blocks whose concatenation is `text` again.

    A block ends at the first blank line after `size` characters, and after twice that wherever it is, at a
    line end if lines are short enough.
    """
    blocks: list[str] = []
    held: list[str] = []
    length = 0
    for line in text.splitlines(keepends=True):
        for start in range(0, len(line), size):
            piece = line[start : start + size]
            held.append(piece)
            length += len(piece)
            if length >= 2 * size or (length >= size and not piece.strip()):
                blocks.append("".join(held))
                held, length = [], 0
    return [*blocks, "".join(held)] if held else blocks


@cache
def _builtin() -> Documents:
    """Kept, as parsing takes a second; documents are immutable."""
    return _halves_by_name(_builtin_documents(), "builtin")


def _builtin_documents() -> Iterator[tuple[str, str]]:
    """(name, text) of pydoc's topics and of each top-level module's docstrings, in a fixed order.

    The modules are parsed, never imported: importing runs them.
    """
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        topics = {}
    for name in sorted(topics):
        yield f"topic {name}", topics[name]
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        text = "\n\n".join(_docstrings(tree, path.stem))
        if text:
            yield f"module {path.stem}", text + "\n"


def _docstrings(node: ast.AST, name: str) -> Iterator[str]:
    """`name` and docstring of a module or class and of what it defines, depth first."""
    if not isinstance(node, DOCSTRING_OWNERS):
        return
    text = ast.get_docstring(node)
    if text:
        yield f"{name}\n{text}"
    if isinstance(node, (ast.Module, ast.ClassDef)):
        for child in node.body:
            yield from _docstrings(child, f"{name}.{getattr(child, 'name', '')}")


def _halves_by_name(named: Iterable[tuple[str, str]], source: str) -> Documents:
    """Halves by a bit of each name's hash, so a document's half does not depend on the others."""
    halves: tuple[list[Document], list[Document]] = ([], [])
    seen: set[str] = set()
    for name, text in named:
        # Some topics carry the same text under two names, which could land on both sides.
        if text.strip() and text not in seen:
            seen.add(text)
            halves[_digest(name.encode())[0] & 1].append(text)
    if not all(halves):
        raise ResourceError(
            "data: this Python installation carries no documentation; give data.files instead of builtin"
        )
    return Documents(tuple(halves[0]), tuple(halves[1]), source)


def _halves_by_content(documents: Sequence[Document], source: str) -> Documents:
    """Two halves of equal count by the rank of each document's hash; repeated documents count once."""
    unique = {_digest(d.encode() if isinstance(d, str) else d.tobytes()): d for d in documents}
    if len(unique) < 2:
        raise ConfigError(f"data: {source} is too short to set a half of it apart for held-out figures; give more text")
    heldout = set(sorted(unique)[len(unique) // 2 :])
    return Documents(
        tuple(document for digest, document in unique.items() if digest not in heldout),
        tuple(document for digest, document in unique.items() if digest in heldout),
        source,
    )


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _block_size(total: int, limits: tuple[int, int]) -> int:
    """Large enough to keep context together, small enough to give both halves some of everything."""
    return min(max(total // BLOCKS, limits[0]), limits[1])


def _from_files(files: str | Path | Sequence[str | Path]) -> Documents:
    paths = [Path(file).expanduser() for file in ([files] if isinstance(files, (str, Path)) else files)]
    texts = [_read_text(path, "files") for path in paths]
    size = _block_size(sum(map(len, texts)), BLOCK_CHARACTERS)
    blocks = [block for text in texts for block in split_blocks(text, size) if block.strip()]
    return _halves_by_content(blocks, ", ".join(map(str, paths)))


def _read_text(path: Path, field: str) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"data.{field}: {path} does not exist; give the path of an existing file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"data.{field}: {path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise ConfigError(f"data.{field}: {path} cannot be read ({error.strerror})") from error
    if not text.strip():
        raise ConfigError(f"data.{field}: {path} is empty; give a file with text")
    return text


def _from_dataset(name: str, split: str | None, subset: str | None, column: str | None) -> Documents:
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise ResourceError(
            "data.dataset: the package datasets is not installed; run pip install 'sparsearch[hub]' or give data.files"
        ) from None
    try:
        rows = datasets.load_dataset(name, subset, split=split or "train")
    except Exception as error:  # the package has no common base class for what can go wrong
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ResourceError(
            f"data.dataset: cannot load {name} ({first}); check name, subset, split and network, or give data.files"
        ) from error
    field = column or "text"
    if field not in rows.column_names:
        raise ConfigError(f"data.column: {name} has no column {field!r}; {did_you_mean(field, rows.column_names)}")
    texts = list(rows[field])
    odd = next((row for row in texts if not isinstance(row, str)), None)
    if odd is not None or None in texts:
        raise ConfigError(f"data.column: {field} of {name} holds {type(odd).__name__}, not text; name a text column")
    return _halves_by_content(_joined_rows(texts), name)


def _joined_rows(rows: Iterable[str]) -> list[str]:
    """Rows as documents, short ones (lines of a text) joined until they give some context."""
    documents: list[str] = []
    held = ""
    for row in rows:
        held += row if row.endswith("\n") else row + "\n"
        if len(held) >= BLOCK_CHARACTERS[0] * 4:
            documents.append(held)
            held = ""
    return [*documents, held] if held.strip() else documents


def _from_tokens(path: Path) -> Documents:
    tokens = _read_tokens(path)
    if not np.issubdtype(tokens.dtype, np.integer) or tokens.ndim not in (1, 2):
        raise ConfigError(
            f"data.tokens: {path} holds {tokens.dtype} of shape {tokens.shape}; "
            "integers [tokens] or [rows, tokens] are wanted"
        )
    if not tokens.size or tokens.min() < 0:
        raise ConfigError(f"data.tokens: {path} holds {'no' if not tokens.size else 'negative'} token ids")
    tokens = tokens.astype(np.int64)
    if tokens.ndim == 2:
        return _halves_by_content(list(tokens), str(path))
    size = _block_size(len(tokens), BLOCK_TOKENS)
    return _halves_by_content([tokens[i : i + size] for i in range(0, len(tokens), size)], str(path))


def _read_tokens(path: Path) -> np.ndarray:
    if not path.is_file():
        raise ConfigError(f"data.tokens: {path} does not exist; give a .npy, .safetensors or .txt file of token ids")
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as file:
                names = list(file.keys())
                if len(names) != 1:
                    raise ConfigError(f"data.tokens: {path} holds {len(names)} tensors; exactly one is wanted")
                return file.get_tensor(names[0])
        if path.suffix == ".txt":
            return np.array([int(word) for word in _read_text(path, "tokens").split()], dtype=np.int64)
    except (ValueError, OSError, EOFError, OverflowError, SafetensorError) as error:
        raise ConfigError(f"data.tokens: {path} cannot be read as token ids ({error})") from error
    raise ConfigError(f"data.tokens: {path} ends in {path.suffix!r}; .npy, .safetensors and .txt are known")
