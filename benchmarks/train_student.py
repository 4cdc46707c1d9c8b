"""Trains a second model for the benchmarks: `python train_student.py OUT [--architecture bert|gpt2] [--text FILE]`.

A student of the embedded reference model, which teaches far more per token than text alone does: same tokenizer, same
width, embeddings that start from its embeddings. `bert` is an encoder of 6 blocks that learns the last hidden states
at every position, `gpt2` a causal model of 12 blocks that learns the distribution of the next token. Text is one file
or, without one, the documentation of the Python installation.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from sparsearch.model.text import load_documents
from sparsearch.reference import reference_path

LENGTH = 128
PEAK_LR, WARMUP_STEPS, FINAL_FRACTION = 1e-3, 200, 0.02
PIECE = 100_000


def token_ids(texts: list[str]) -> np.ndarray:
    """All token ids of the texts, `[tokens]`."""
    tokenizer = AutoTokenizer.from_pretrained(reference_path())
    pieces = [text[i : i + PIECE] for text in texts for i in range(0, len(text), PIECE)]
    return np.concatenate([np.asarray(ids) for ids in tokenizer(pieces, verbose=False)["input_ids"]])


def bert(vocabulary: int, width: int) -> BertModel:
    """An untrained encoder of 36 sites: 1.5 million parameters at width 128."""
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=6, num_attention_heads=4,
        intermediate_size=4 * width, max_position_embeddings=2 * LENGTH,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BertModel(config)


def gpt2(vocabulary: int, width: int) -> GPT2LMHeadModel:
    """An untrained causal model of 48 sites: 2.7 million parameters at width 128."""
    config = GPT2Config(
        vocab_size=vocabulary, n_embd=width, n_layer=12, n_head=4, n_positions=2 * LENGTH,
        embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def hidden_error(student: nn.Module, teacher: nn.Module, batch: Tensor) -> Tensor:
    """Squared error of the last hidden states, the teacher's at mean 0 and variance 1 in each position."""
    with torch.no_grad():
        hidden = teacher(batch, output_hidden_states=True).hidden_states[-1]
    return functional.mse_loss(student(batch).last_hidden_state, functional.layer_norm(hidden, hidden.shape[-1:]))


def divergence(student: nn.Module, teacher: nn.Module, batch: Tensor) -> Tensor:
    """KL of the student's next-token distribution from the teacher's, nats a token."""
    with torch.no_grad():
        taught = teacher(batch).logits.log_softmax(-1)
    learned = student(batch).logits.log_softmax(-1)
    return functional.kl_div(learned.flatten(0, 1), taught.flatten(0, 1), reduction="batchmean", log_target=True)


STUDENTS = {"bert": (bert, hidden_error, 32), "gpt2": (gpt2, divergence, 8)}
"""How it is built, what it learns by, and from how many sequences a step."""


def train(
    student: nn.Module, loss_of: Callable[[Tensor], Tensor], tokens: np.ndarray, sequences: int, minutes: float
) -> None:
    """AdamW with warm-up and linear decay over the time given; prints the loss."""
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(student.parameters(), betas=(0.9, 0.95), weight_decay=0.05)
    begun, recent = time.monotonic(), [0.0]
    while (done := (time.monotonic() - begun) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * min(1.0, len(recent) / WARMUP_STEPS) * max(1 - done, FINAL_FRACTION)
        starts = rng.integers(0, len(tokens) - LENGTH, sequences)
        batch = torch.from_numpy(np.stack([tokens[i : i + LENGTH] for i in starts])).long()
        loss = loss_of(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss.item())
        if len(recent) % 100 == 1:
            print(f"step {len(recent) - 1} loss {np.mean(recent[-100:]):.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write the checkpoint to")
    parser.add_argument("--architecture", choices=sorted(STUDENTS), default="bert")
    parser.add_argument("--text", type=Path, help="UTF-8 text file (default: documentation of this Python)")
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    torch.manual_seed(0)
    texts = [given.text.read_text(encoding="utf-8")] if given.text else list(map(str, load_documents("builtin").train))
    teacher = AutoModelForCausalLM.from_pretrained(reference_path(), dtype=torch.float32).eval()
    words = teacher.get_input_embeddings().weight.detach()
    build, loss_of, sequences = STUDENTS[given.architecture]
    student = build(*words.shape)
    student.get_input_embeddings().weight.data.copy_(words)
    train(student, partial(loss_of, student, teacher), token_ids(texts), sequences, given.minutes)
    student.save_pretrained(given.out)
    AutoTokenizer.from_pretrained(reference_path()).save_pretrained(given.out)


if __name__ == "__main__":
    main()
