"""Tiny random checkpoints on disk, stored in float16 and computing in float32, and a pruning of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from sparsearch.export.dense import export_dense
from sparsearch.model.load import load_model
from sparsearch.model.prunable import PrunableModel
from sparsearch.model.site import Site
from sparsearch.model.sites import find_sites, site_weight
from sparsearch.space import Profile

VOCABULARY = 64


@dataclass
class Pruned:
    """A live dense model and what its export should hold."""

    model: PrunableModel
    weights: list[tuple[Site, torch.Tensor]]
    profile: Profile

    def export(self, out: Path, **changes) -> None:
        arguments = {"profile": self.profile, "card": "a card\n", "config_yaml": "seed: 0\n"} | changes
        export_dense(self.model, self.weights, out, **arguments)


def _llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
        )
    )  # fmt: skip


def _gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, eos_token_id=0)
    )


@pytest.fixture
def pruned(tmp_path) -> Callable[[str], Pruned]:
    """Saves and loads the named architecture and prunes its sites by magnitude, each to its own sparsity."""

    def make(architecture: str) -> Pruned:
        torch.manual_seed(0)
        source = tmp_path / f"source-{architecture}"
        {"llama": _llama, "gpt2": _gpt2}[architecture]().to(torch.float16).save_pretrained(source)
        model = load_model(str(source), device="cpu")
        weights, sites = [], []
        for number, site in enumerate(find_sites(model)):
            count = site.size * (number % 4) // 5
            weight = site_weight(model.module, site).contiguous().clone()
            order = weight.abs().flatten().argsort()[:count]
            weight.view(-1).scatter_(0, order, -0.0)
            weights.append((site, weight))
            sites.append({
                "name": site.name, "kind": site.kind, "block": site.block, "shape": list(site.shape),
                "level": "dense" if count == 0 else f"{number % 4 / 5:g}", "sparsity": count / site.size,
            })  # fmt: skip
        return Pruned(model, weights, Profile(tuple(sites), {"sparsity": "0.3"}, {}))

    return make


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    words = {f"word{number}": number for number in range(VOCABULARY)}
    splitter = Tokenizer(WordLevel(words, unk_token="word0"))
    splitter.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=splitter)
