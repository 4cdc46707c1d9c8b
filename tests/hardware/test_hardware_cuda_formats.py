"""What the CUDA backends store and refuse, which needs no device."""

import pytest
import torch

from sparsearch.hardware.kernels import BACKENDS
from sparsearch.hardware.kernels.cuda_semi_structured import compress, expand
from sparsearch.hardware.kernels.torch_bsr import bsr_tensors


def two_of_four(rows, columns):
    groups = torch.randn(rows, columns // 4, 4, generator=torch.Generator().manual_seed(0))
    order = torch.rand(groups.shape, generator=torch.Generator().manual_seed(1)).argsort(-1)
    return groups.masked_fill(order < 2, 0).reshape(rows, columns)


def test_two_of_four_comes_back_from_its_compressed_form():
    weight = two_of_four(32, 64)
    weight[3] = 0
    weight[4, ::2] = 0
    stored = compress(weight)
    assert torch.equal(expand((32, 64), stored), weight)
    assert stored["values"].numel() == weight.numel() // 2
    assert stored["places"].nbytes == weight.numel() // 4


def test_what_is_not_two_of_four_is_refused():
    with pytest.raises(ValueError, match="more than two non-zeros"):
        compress(torch.ones(32, 64))


def test_blocks_hold_all_non_zeros():
    weight = torch.zeros(64, 96)
    weight[40, 70] = 2.0
    stored = bsr_tensors(weight, 32)
    assert stored["crow"].tolist() == [0, 0, 1]
    assert stored["col"].tolist() == [2]
    assert stored["values"].shape == (1, 32, 32)
    assert stored["values"][0, 8, 6] == 2.0


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "label", "why"),
    [
        ("cuda_semi_structured", (64, 64), torch.bfloat16, "0.5", "takes the level 2:4; found 0.5"),
        ("cuda_semi_structured", (64, 64), torch.float32, "2:4", "found torch.float32"),
        ("cuda_semi_structured", (64, 60), torch.bfloat16, "2:4", "found 64 x 60"),
        ("cuda_bsr", (64, 60), torch.bfloat16, "0.5", "takes sides that 32 divides; found 64 x 60"),
        ("cuda_bsr", (64, 64), torch.float64, "0.5", "found torch.float64"),
        ("torch_bsr", (64, 60), torch.float32, "0.5", "takes sides that 16 divides; found 64 x 60"),
        ("torch_csr", (64, 60), torch.bfloat16, "0.5", "found torch.bfloat16"),
    ],
)
def test_refusals_say_what_is_taken_and_what_was_found(name, shape, dtype, label, why):
    assert why in BACKENDS[name].refuses(shape, dtype, label)


def test_shapes_that_fit_are_taken():
    assert BACKENDS["cuda_semi_structured"].refuses((64, 128), torch.bfloat16, "2:4") is None
    assert BACKENDS["cuda_bsr"].refuses((64, 128), torch.bfloat16, "0.5") is None
