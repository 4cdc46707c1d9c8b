import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sparsearch.hardware import native
from sparsearch.model.load import wrap_model
from sparsearch.runtime.head import pack_head, packed_head

needs_native = pytest.mark.skipif(native.unavailable() is not None, reason=str(native.unavailable()))


def wrapped(module, storage):
    return wrap_model(module.to(storage).float(), "tiny", storage)


@needs_native
@pytest.mark.parametrize("family", ["gpt2", "qwen3", "llama"])
def test_a_head_of_16_bits_is_packed_and_computes_the_same(tiny_model, family):
    model = wrapped(tiny_model(family), torch.bfloat16)
    ((path, linear),) = packed_head(model).items()
    own = model.module.get_submodule(path)
    assert own is model.module.get_output_embeddings() and linear.packed_bytes < own.weight.nbytes
    x = torch.randn(3, own.in_features, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(linear(x), own(x), rtol=1e-5, atol=1e-6)
    assert pack_head(model, {path}) == {}


@needs_native
def test_a_head_that_is_computed_in_16_bits_is_packed_into_as_many():
    sizes = {"vocab_size": 129, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2}
    config = LlamaConfig(**sizes, num_key_value_heads=2, num_hidden_layers=1)
    model = wrap_model(LlamaForCausalLM(config).to(torch.bfloat16), "tiny", torch.bfloat16)
    ((path, linear),) = packed_head(model).items()
    own = model.module.get_submodule(path)
    assert linear.packed_bytes == 130 * 64 * 2
    x = torch.randn(3, own.in_features, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.no_grad():
        assert torch.allclose(linear(x), own(x), rtol=2**-7, atol=1e-3)


@pytest.mark.parametrize(
    ("family", "storage"), [("gpt2", torch.float32), ("bert", torch.bfloat16), ("vit", torch.bfloat16)]
)
def test_where_there_is_no_head_or_no_form_of_fewer_bits_nothing_is_packed(tiny_model, family, storage):
    assert packed_head(wrapped(tiny_model(family), storage)) == {}
