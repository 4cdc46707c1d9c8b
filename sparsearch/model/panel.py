"""Panels: the fixed, seeded sets of sequences that statistics and evaluations draw from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from sparsearch.errors import ConfigError
from sparsearch.model.text import Document, Documents, split_blocks
from sparsearch.seeds import spawn

PIECES_AT_ONCE = 32
PIECE_CHARACTERS_PER_TOKEN = 8


@dataclass(frozen=True, eq=False)
class Panel:
    """N items that the model's forward takes, as tensors whose first dimension is N.

    Attributes:
        items: argument name -> tensor; `{"input_ids": int64 [N, T]}` for language models.
    """

    items: dict[str, Tensor]

    def __post_init__(self) -> None:
        counts = {name: tensor.shape[0] for name, tensor in self.items.items()}
        if len(set(counts.values())) != 1:
            raise ConfigError(f"panel: every item needs the same number of sequences, found {counts}")

    def __len__(self) -> int:
        return next(iter(self.items.values())).shape[0]

    @property
    def length(self) -> int:
        """Tokens per sequence; 1 for items that are not token sequences."""
        ids = self.items.get("input_ids")
        return 1 if ids is None else ids.shape[1]

    def batch(self, indices: Sequence[int] | Tensor | slice) -> dict[str, Tensor]:
        """The forward's keyword arguments for these sequences, in that order."""
        chosen = indices if isinstance(indices, slice) else torch.as_tensor(indices, dtype=torch.long)
        return {name: tensor[chosen] for name, tensor in self.items.items()}

    @cached_property
    def fingerprint(self) -> str:
        """BLAKE2b over names, shapes, dtypes and bytes, as hex."""
        state = hashlib.blake2b(digest_size=16)
        for name in sorted(self.items):
            tensor = self.items[name].detach().cpu().contiguous()
            state.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            state.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
        return state.hexdigest()


@dataclass(frozen=True, eq=False)
class Panels:
    """The panels of a job: `calibration` for statistics, `search` to steer, `heldout` only to measure."""

    calibration: Panel
    search: Panel
    heldout: Panel


def make_panels(
    documents: Documents,
    tokenizer: PreTrainedTokenizerBase | None,
    length: int,
    sizes: Mapping[str, int],
    seed: int,
) -> Panels:
    """Fixed sequences of `length` tokens, packed without padding, that do not overlap.

    Documents are taken in a seeded random order and joined with the end-of-sequence token where there is one.
    Calibration comes first, so it does not change with the size of the search panel; both are from
    `documents.train`, the held-out panel from `documents.heldout` alone. Only as much text is tokenised as
    needed.

    Args:
        documents: text, or token ids, which need no tokenizer and are packed as they are.
        tokenizer: of the model.
        length: tokens per sequence.
        sizes: sequences in `calibration`, `search` and `heldout`.
        seed: the job's.

    Raises:
        ConfigError: the text holds fewer sequences than asked for, or token ids that the tokenizer lacks.
    """
    if length < 1 or min(sizes.values()) < 0:
        raise ConfigError(f"panel: length {length} and sizes {dict(sizes)} have to be positive")
    calibration, search = sizes["calibration"], sizes["search"]
    steering = _sequences(documents, "train", tokenizer, length, calibration + search, seed)
    heldout = _sequences(documents, "heldout", tokenizer, length, sizes["heldout"], seed)
    return Panels(
        Panel({"input_ids": steering[:calibration].clone()}),
        Panel({"input_ids": steering[calibration:].clone()}),
        Panel({"input_ids": heldout}),
    )


def _sequences(
    documents: Documents,
    half: str,
    tokenizer: PreTrainedTokenizerBase | None,
    length: int,
    count: int,
    seed: int,
) -> Tensor:
    """The first `count` sequences of the half's seeded stream, int64 `[count, length]`."""
    pieces = _pieces(documents.train if half == "train" else documents.heldout, length)
    order = spawn(seed, "panel", half).permutation(len(pieces))
    parts: list[np.ndarray] = []
    held, wanted = 0, count * length
    for part in _token_parts([pieces[i] for i in order], tokenizer):
        if held >= wanted:
            break
        parts.append(part)
        held += len(part)
    if held < wanted:
        raise ConfigError(
            f"panel: {count} sequences of {length} tokens are asked of the {half} half of "
            f"{documents.source}, which holds {held // length} ({held} tokens); use shorter sequences, "
            "smaller panels or more text"
        )
    tokens = np.concatenate(parts)[:wanted] if parts else np.empty(0, dtype=np.int64)
    return torch.from_numpy(tokens.reshape(count, length))


def _pieces(documents: Sequence[Document], length: int) -> list[Document]:
    """Long documents cut into a few sequences each, so that a panel draws from many documents."""
    pieces: list[Document] = []
    for document in documents:
        if isinstance(document, str):
            pieces.extend(split_blocks(document, PIECE_CHARACTERS_PER_TOKEN * length))
        else:
            pieces.append(document)
    return pieces


def _token_parts(pieces: Sequence[Document], tokenizer: PreTrainedTokenizerBase | None) -> Iterator[np.ndarray]:
    """Token ids of the pieces in order, int64, tokenised a few at a time."""
    for start in range(0, len(pieces), PIECES_AT_ONCE):
        group = pieces[start : start + PIECES_AT_ONCE]
        texts = [piece for piece in group if isinstance(piece, str)]
        if texts:
            yield from _tokenised(texts, tokenizer)
        for piece in group:
            if not isinstance(piece, str):
                yield _checked(piece, tokenizer)


def _tokenised(texts: list[str], tokenizer: PreTrainedTokenizerBase | None) -> Iterator[np.ndarray]:
    if tokenizer is None:
        raise ConfigError("panel: text needs the model's tokenizer, which is missing; give data.tokens instead")
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]:
        yield np.asarray(ids + end, dtype=np.int64)


def _checked(tokens: np.ndarray, tokenizer: PreTrainedTokenizerBase | None) -> np.ndarray:
    if tokenizer is not None and len(tokens) and tokens.max() >= len(tokenizer):
        raise ConfigError(
            f"data.tokens: holds the id {tokens.max()}, but the model's tokenizer knows {len(tokenizer)}; "
            "tokenise the text with this model's tokenizer"
        )
    return tokens
