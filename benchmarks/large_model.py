"""A model of real shapes that needs no download: a randomly initialised Llama."""

from __future__ import annotations

import torch
from common import SEED
from transformers import LlamaConfig, LlamaForCausalLM

from sparsearch.model.load import wrap_model
from sparsearch.model.prunable import PrunableModel

BLOCKS, VOCABULARY = 16, 32000
QUICK_VOCABULARY = 2048


def large(quick: bool, blocks: int = BLOCKS, vocabulary: int = VOCABULARY) -> PrunableModel:
    """Blocks of width 1024, MLP 2816, as a bfloat16 checkpoint, computing in float32; 213 million parameters.

    Args:
        quick: 2 blocks of width 128.
        blocks: 16, or fewer.
        vocabulary: 32000, or less where the output projection should not outweigh fewer blocks.
    """
    width = 128 if quick else 1024
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=QUICK_VOCABULARY if quick else vocabulary, hidden_size=width, intermediate_size=11 * width // 4,
        num_hidden_layers=2 if quick else blocks, num_attention_heads=16, num_key_value_heads=4,
        tie_word_embeddings=True,
    )  # fmt: skip
    return wrap_model(LlamaForCausalLM(config).to(torch.bfloat16).float(), "large", torch.bfloat16)
