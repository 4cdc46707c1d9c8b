"""Fixtures for every test: tiny random transformers models, made from configs without a network."""

import os

# Before any import of transformers, which reads it once: a test that asks the hub has to fail at once.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
import transformers as tf

from sparsearch.reference import reference_path

torch.set_num_threads(1)

VOCABULARY = 2048  # that of the reference tokenizer, so that its text runs through the tiny models
WIDTH, FFN, BLOCKS, HEADS, KV_HEADS = 32, 48, 2, 4, 2

_decoder = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": FFN,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
_grouped = {**_decoder, "num_key_value_heads": KV_HEADS, "tie_word_embeddings": False}
_windowed = {
    **_grouped,
    "head_dim": 8,
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "full_attention"],
    "tie_word_embeddings": True,
}
_gpt2 = {
    "vocab_size": VOCABULARY,
    "n_embd": WIDTH,
    "n_layer": BLOCKS,
    "n_head": HEADS,
    "n_positions": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
_opt = {**_decoder, "ffn_dim": FFN, "word_embed_proj_dim": WIDTH, "pad_token_id": 1}
_opt.pop("intermediate_size")
_encoder = {
    "hidden_size": WIDTH,
    "intermediate_size": FFN,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": HEADS,
}
_moe = {**_grouped, "num_local_experts": 4, "num_experts_per_tok": 2}

FAMILIES = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**_grouped)),
    "llama_tied": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**{**_grouped, "tie_word_embeddings": True})),
    "gpt2": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(**_gpt2)),
    "opt": lambda: tf.OPTForCausalLM(tf.OPTConfig(**_opt)),
    "qwen2": lambda: tf.Qwen2ForCausalLM(tf.Qwen2Config(**_grouped)),
    "qwen3": lambda: tf.Qwen3ForCausalLM(tf.Qwen3Config(**_grouped, head_dim=8)),
    "gemma2": lambda: tf.Gemma2ForCausalLM(tf.Gemma2Config(**_windowed, query_pre_attn_scalar=8)),
    "gemma3": lambda: tf.Gemma3ForCausalLM(tf.Gemma3TextConfig(**_windowed, query_pre_attn_scalar=8)),
    "phi3": lambda: tf.Phi3ForCausalLM(tf.Phi3Config(**_grouped)),
    "gpt_neox": lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**_decoder)),
    "mixtral": lambda: tf.MixtralForCausalLM(tf.MixtralConfig(**_moe)),
    "bert": lambda: tf.BertModel(tf.BertConfig(**_encoder, vocab_size=VOCABULARY, max_position_embeddings=128)),
    "vit": lambda: tf.ViTModel(tf.ViTConfig(**_encoder, image_size=16, patch_size=8)),
}


def make_tiny_model(family):
    torch.manual_seed(0)
    return FAMILIES[family]().eval()


@pytest.fixture(scope="session")
def tiny_model():
    """`tiny_model(family)`: a fresh random model of 2 blocks of width 32, the same one at every call."""
    return make_tiny_model


@pytest.fixture(scope="session")
def tiny_llama_folder(tmp_path_factory):
    """A complete float16 checkpoint folder (Llama, GQA, untied) with the reference tokenizer; read only."""
    folder = tmp_path_factory.mktemp("tiny_llama")
    make_tiny_model("llama").half().save_pretrained(folder)
    tf.AutoTokenizer.from_pretrained(reference_path()).save_pretrained(folder)
    return folder
