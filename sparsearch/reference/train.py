"""Trains the reference LM from scratch: `python train.py TEXT_FOLDER OUT_FOLDER [--minutes 36]`.

TEXT_FOLDER holds train.txt and valid.txt in UTF-8; OUT_FOLDER becomes a transformers checkpoint.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 2048
LENGTH, BATCH = 256, 16
PEAK_LR, WARMUP_STEPS, DECAY_FRACTION, FINAL_FRACTION = 4e-3, 100, 0.35, 0.02
PIECE = 100_000


def train_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Byte-level BPE with `VOCABULARY` entries, trained on one text file."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train([str(path)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", model_max_length=2 * LENGTH
    )


def encode(tokenizer: PreTrainedTokenizerFast, path: Path) -> np.ndarray:
    """All token ids of a text file, `[tokens]`."""
    text = path.read_text(encoding="utf-8")
    pieces = [text[i : i + PIECE] for i in range(0, len(text), PIECE)]
    return np.concatenate([np.asarray(ids) for ids in tokenizer(pieces)["input_ids"]])


def sequences(tokens: np.ndarray, starts: np.ndarray) -> Tensor:
    """Token ids `[len(starts), LENGTH]`, int64."""
    return torch.from_numpy(np.stack([tokens[i : i + LENGTH] for i in starts])).long()


def reference_config() -> LlamaConfig:
    """12 blocks of width 128 with grouped-query attention and tied embeddings: 2,477,184 parameters."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2 * LENGTH,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=0,
        eos_token_id=1,
    )


def learning_rate(step: int, done: float) -> float:
    """Linear warm-up, then constant, then a linear decay over the last part of the time (`done` in 0..1)."""
    return PEAK_LR * min(1.0, (step + 1) / WARMUP_STEPS) * min(1.0, (1 - done) / DECAY_FRACTION + FINAL_FRACTION)


def perplexity(model: LlamaForCausalLM, tokens: np.ndarray) -> float:
    """Perplexity per token on the first 64 sequences."""
    with torch.no_grad():
        held = sequences(tokens, np.arange(64) * LENGTH)
        return math.exp(model(input_ids=held, labels=held).loss.item())


def train(model: LlamaForCausalLM, tokens: np.ndarray, valid: np.ndarray, minutes: float) -> None:
    """AdamW on random windows of `tokens` for that long; prints progress."""
    rng = np.random.default_rng(0)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    begin, step = time.monotonic(), 0
    while (done := (time.monotonic() - begin) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, done)
        batch = sequences(tokens, rng.integers(0, len(tokens) - LENGTH, BATCH))
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 100 == 0:
            seen, held = step * LENGTH * BATCH, perplexity(model, valid)
            print(f"step {step} tokens {seen} loss {loss.item():.3f} valid perplexity {held:.2f}", flush=True)


def main() -> None:
    """Reads the arguments, trains tokenizer and model, writes the checkpoint in float16."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("text", type=Path, help="folder with train.txt and valid.txt")
    parser.add_argument("out", type=Path, help="folder to write the checkpoint to")
    parser.add_argument("--minutes", type=float, default=36.0, help="how long to train")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = train_tokenizer(arguments.text / "train.txt")
    tokenizer.save_pretrained(arguments.out)
    tokens, valid = (encode(tokenizer, arguments.text / f"{part}.txt") for part in ("train", "valid"))
    model = LlamaForCausalLM(reference_config())
    train(model, tokens, valid, arguments.minutes)
    model.half().save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
