"""Trains a small encoder, the second model of the search benchmark: `python train_encoder.py OUT [--text FILE]`.

BERT architecture, 6 blocks of width 128, distilled from the embedded reference model: same tokenizer, embeddings
that start from its embeddings, and its last hidden states as targets at every position, which teaches far more per
token than masked words do. Text is one file or, without one, the documentation of the Python installation.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from sparsearch.model.text import load_documents
from sparsearch.reference import reference_path

LENGTH, BATCH = 128, 32
PEAK_LR, WARMUP_STEPS, FINAL_FRACTION = 1e-3, 200, 0.02
PIECE = 100_000


def token_ids(texts: list[str]) -> np.ndarray:
    """All token ids of the texts, `[tokens]`."""
    tokenizer = AutoTokenizer.from_pretrained(reference_path())
    pieces = [text[i : i + PIECE] for text in texts for i in range(0, len(text), PIECE)]
    return np.concatenate([np.asarray(ids) for ids in tokenizer(pieces, verbose=False)["input_ids"]])


def encoder_for(teacher: nn.Module) -> BertModel:
    """An untrained encoder of the teacher's width that starts from its embeddings: 1.5 million parameters."""
    words = teacher.get_input_embeddings().weight.detach()
    config = BertConfig(
        vocab_size=words.shape[0], hidden_size=words.shape[1], num_hidden_layers=6, num_attention_heads=4,
        intermediate_size=4 * words.shape[1], max_position_embeddings=2 * LENGTH,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = BertModel(config)
    model.get_input_embeddings().weight.data.copy_(words)
    return model


def train(model: BertModel, teacher: nn.Module, tokens: np.ndarray, minutes: float) -> None:
    """AdamW with warm-up and linear decay over the time given; prints the error relative to the targets' norm."""
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.05)
    begun, recent = time.monotonic(), [0.0]
    while (done := (time.monotonic() - begun) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * min(1.0, len(recent) / WARMUP_STEPS) * max(1 - done, FINAL_FRACTION)
        starts = rng.integers(0, len(tokens) - LENGTH, BATCH)
        batch = torch.from_numpy(np.stack([tokens[i : i + LENGTH] for i in starts])).long()
        loss = functional.mse_loss(model(batch).last_hidden_state, target(teacher, batch))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss.item())
        if len(recent) % 100 == 1:
            print(f"step {len(recent) - 1} error {np.mean(recent[-100:]):.3f}", flush=True)


@torch.no_grad()
def target(teacher: nn.Module, batch: Tensor) -> Tensor:
    """The teacher's last hidden states, every feature of mean 0 and variance 1 at each position."""
    hidden = teacher(batch).last_hidden_state
    return functional.layer_norm(hidden, hidden.shape[-1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write the checkpoint to")
    parser.add_argument("--text", type=Path, help="UTF-8 text file (default: documentation of this Python)")
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    torch.manual_seed(0)
    texts = [given.text.read_text(encoding="utf-8")] if given.text else list(map(str, load_documents("builtin").train))
    teacher = AutoModel.from_pretrained(reference_path(), dtype=torch.float32).eval()
    model = encoder_for(teacher)
    train(model, teacher, token_ids(texts), given.minutes)
    model.save_pretrained(given.out)
    AutoTokenizer.from_pretrained(reference_path()).save_pretrained(given.out)


if __name__ == "__main__":
    main()
