"""Trains a small encoder, the second model of the search benchmark: `python train_encoder.py OUT [--text FILE]`.

BERT architecture, 6 blocks of width 128, masked-language modelling with the reference model's tokenizer, on
one text file or, without one, the documentation of the Python installation. The checkpoint is the bare encoder.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from sparsearch.model.text import load_documents
from sparsearch.reference import reference_path

LENGTH, BATCH, MASKED = 128, 32, 0.15
PEAK_LR, WARMUP_STEPS = 2e-3, 100
PIECE = 100_000


def token_ids(text: list[str], tokenizer: object) -> np.ndarray:
    """All token ids of the texts, `[tokens]`."""
    pieces = [part[i : i + PIECE] for part in text for i in range(0, len(part), PIECE)]
    return np.concatenate([np.asarray(ids) for ids in tokenizer(pieces, verbose=False)["input_ids"]])  # type: ignore[operator]


def masked(ids: Tensor, mask_id: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs with a share of the tokens masked, and labels that ignore all others."""
    hidden = torch.rand(ids.shape, generator=generator) < MASKED
    return ids.masked_fill(hidden, mask_id), ids.masked_fill(~hidden, -100)


def train(model: BertForMaskedLM, tokens: np.ndarray, mask_id: int, minutes: float) -> None:
    """AdamW with warm-up and linear decay over the time given; prints the loss."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.05)
    begun, step, recent = time.monotonic(), 0, []
    while (done := (time.monotonic() - begun) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * min(1.0, (step + 1) / WARMUP_STEPS) * max(1 - done, 0.02)
        starts = rng.integers(0, len(tokens) - LENGTH, BATCH)
        batch = torch.from_numpy(np.stack([tokens[i : i + LENGTH] for i in starts])).long()
        inputs, labels = masked(batch, mask_id, generator)
        loss = model(input_ids=inputs, labels=labels).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss.item())
        step += 1
        if step % 100 == 0:
            print(f"step {step} tokens {step * LENGTH * BATCH} loss {np.mean(recent[-100:]):.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write the checkpoint to")
    parser.add_argument("--text", type=Path, help="UTF-8 text file (default: documentation of this Python)")
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(reference_path())
    text = [given.text.read_text(encoding="utf-8")] if given.text else list(load_documents("builtin").train)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=128, num_hidden_layers=6, num_attention_heads=4,
        intermediate_size=512, max_position_embeddings=256, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = BertForMaskedLM(config)
    train(model, token_ids([str(part) for part in text], tokenizer), tokenizer.bos_token_id, given.minutes)
    model.bert.save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)


if __name__ == "__main__":
    main()
