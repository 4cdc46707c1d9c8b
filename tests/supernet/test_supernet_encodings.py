import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from sparsearch.supernet.encodings import (
    decode_bitmask,
    decode_variant,
    encode_bitmask,
    encode_level_map,
    encode_variants,
)

DTYPES = [torch.float16, torch.bfloat16, torch.float32]


def random_weight(rows: int, columns: int, density: float, seed: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    return (weight * (torch.rand(rows, columns, generator=generator) < density)).to(dtype)


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 9), st.integers(1, 33), st.floats(0, 1), st.integers(0, 99), st.sampled_from(DTYPES))
def test_bitmask_round_trip_is_exact_to_the_bit(rows, columns, density, seed, dtype):
    weight = random_weight(rows, columns, density, seed, dtype)
    weight = torch.where(weight == 0, torch.zeros((), dtype=dtype), weight)
    parts = encode_bitmask(weight)
    assert bits(decode_bitmask(parts["mask"], parts["values"], weight.shape)) == bits(weight)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 8), st.integers(1, 20), st.integers(1, 12), st.integers(0, 99))
def test_level_map_gives_every_nested_mask_back(rows, columns, levels, seed):
    generator = torch.Generator().manual_seed(seed)
    death = torch.randint(1, levels + 2, (rows, columns), generator=generator)
    masks = torch.stack([death > level for level in range(1, levels + 1)])
    dense = torch.randn(rows, columns, generator=generator)
    level_map = encode_level_map(masks)
    assert level_map.dtype == torch.uint8
    for level in range(1, levels + 1):
        assert torch.equal(decode_variant({"map": level_map}, level, dense, dense.dtype), dense * masks[level - 1])


def test_level_map_refuses_masks_that_are_not_nested():
    masks = torch.tensor([[[True, False]], [[False, True]]])
    with pytest.raises(ValueError, match="nested"):
        encode_level_map(masks)


@pytest.mark.parametrize("dtype", DTYPES)
def test_variants_take_the_smaller_encoding_and_come_back_exactly(dtype):
    weights = [random_weight(64, 64, density, 1, dtype) for density in (1.0, 0.99, 0.5, 0.0)]
    tensors = encode_variants(weights)
    assert "1.dense" in tensors and "3.mask" in tensors and tensors["4.values"].numel() == 0
    for level, weight in enumerate(weights, start=1):
        decoded = decode_variant(tensors, level, torch.zeros(64, 64), dtype)
        assert torch.equal(decoded, weight)
        assert not torch.signbit(decoded[decoded == 0]).any()
    stored = sum(tensor.nbytes for name, tensor in tensors.items() if name.startswith("3"))
    assert stored <= 64 * 64 // 8 + int((weights[2] != 0).sum()) * dtype.itemsize


def test_negative_zeros_are_stored_as_positive_ones():
    weight = torch.tensor([[-0.0, 1.0], [2.0, 3.0]])
    assert not torch.signbit(decode_variant(encode_variants([weight]), 1, weight, weight.dtype)).any(dim=1)[0]
