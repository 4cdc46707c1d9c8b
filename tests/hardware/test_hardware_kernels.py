import math

import pytest
import torch
from kernel_cases import AVAILABLE, SHAPES, assert_close, product, random_input, random_weight, token_counts
from safetensors.torch import load_file, save_file

from sparsearch.hardware.kernels import BACKENDS

each = pytest.mark.parametrize("backend", AVAILABLE, ids=lambda backend: backend.name)


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def served(backend, shape, dtype=torch.float32, label="0.5"):
    return backend.refuses(shape, dtype, label) is None


def test_names_are_keys_and_reasons_are_sentences():
    assert len(AVAILABLE) >= 5
    for name, backend in BACKENDS.items():
        assert backend.name == name
        assert backend.device in ("cpu", "cuda")
        reason = backend.unavailable()
        assert reason is None or len(reason) > 10


@each
@pytest.mark.parametrize("count", [1, 2])
def test_products_equal_those_in_float64_for_any_shape_and_number_of_tokens(backend, count):
    torch.set_num_threads(count)
    several = (1, 8, 70)
    for shape in filter(lambda shape: served(backend, shape), SHAPES):
        for sparsity in (0.0, 0.5, 0.95, 1.0):
            weight = random_weight(shape, sparsity)
            packed = backend.pack(weight)
            assert packed.shape == shape
            for tokens in token_counts(backend) if count == 1 else filter(backend.serves, several):
                x = random_input(tokens, shape[1])
                assert_close(backend, product(backend, x, packed), x, weight)


@each
@pytest.mark.parametrize("fill", [0.0, 1.5])
def test_matrices_that_are_all_zero_or_full(backend, fill):
    for shape in filter(lambda shape: served(backend, shape), SHAPES):
        weight = torch.full(shape, fill)
        packed = backend.pack(weight)
        for tokens in token_counts(backend):
            x = random_input(tokens, shape[1])
            assert_close(backend, product(backend, x, packed), x, weight)


@each
def test_other_dtypes_that_are_served(backend):
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        if not served(backend, (64, 48), dtype):
            continue
        weight = random_weight((64, 48), 0.6, dtype=dtype)
        packed = backend.pack(weight)
        for tokens in token_counts(backend):
            x = random_input(tokens, 48, dtype=dtype)
            assert_close(backend, product(backend, x, packed), x, weight)


@each
def test_inputs_and_weights_need_not_be_contiguous(backend):
    weight = random_weight((64, 64), 0.7)
    packed = backend.pack(weight.T.contiguous().T)
    for tokens in token_counts(backend):
        for x in (
            random_input(64, tokens).T,
            random_input(2 * tokens, 64)[::2],
            random_input(tokens, 70)[:, 3:67],
            random_input(1, 64).expand(tokens, 64),
            random_input(tokens, 64).requires_grad_(),
        ):
            with torch.no_grad():
                assert_close(backend, product(backend, x, packed), x, weight)


@pytest.mark.parametrize("backend", [one for one in AVAILABLE if one.any_shape], ids=lambda backend: backend.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dimensions_before_the_last_are_kept_where_it_says_so(backend, dtype):
    packed = backend.pack(random_weight((48, 64), 0.6, dtype=dtype))
    for leading in ((), (3,), (1, 1), (2, 5), (2, 3, 40)):
        x = random_input(240, 64, dtype=dtype)[: math.prod(leading)].view(*leading, 64)
        flat = backend.matmul(x.reshape(-1, 64), packed)
        assert torch.equal(product(backend, x, packed), flat.view(*leading, 48))


@each
def test_no_tokens_are_no_products(backend):
    if backend.serves(0):
        assert product(backend, torch.empty(0, 64), backend.pack(random_weight((64, 64), 0.5))).shape == (0, 64)


@each
def test_what_is_stored_can_be_written_and_opened_again(backend, tmp_path):
    weight = random_weight((64, 80), 0.6)
    packed = backend.pack(weight)
    assert packed.bytes == sum(tensor.nbytes for tensor in packed.tensors.values())
    save_file(dict(packed.tensors), tmp_path / "packed.safetensors")
    opened = backend.open((64, 80), load_file(tmp_path / "packed.safetensors"))
    assert opened.bytes == packed.bytes
    for tokens in token_counts(backend):
        x = random_input(tokens, 80)
        assert torch.equal(product(backend, x, opened), product(backend, x, packed))


@each
def test_packing_keeps_nothing_of_the_weight(backend):
    weight = random_weight((64, 80), 0.6)
    packed = backend.pack(weight.clone())
    x = random_input(token_counts(backend)[0], 80)
    before = product(backend, x, packed)
    again = backend.pack(weight)
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in packed.tensors.items())
    assert torch.equal(product(backend, x, again), before)


@each
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_inputs_that_are_not_finite_come_through(backend, value):
    weight = random_weight((48, 64), 0.6)
    packed = backend.pack(weight)
    for tokens in token_counts(backend):
        x = random_input(tokens, 64)
        x[tokens // 2, 33] = value
        found, dense = product(backend, x, packed), x.double() @ weight.double().T
        others = torch.arange(tokens) != tokens // 2
        assert found[others].isfinite().all()
        seen = weight[:, 33] != 0 if backend.skips_zeros else torch.ones(48, dtype=torch.bool)
        assert_same_kind(found[tokens // 2, seen], dense[tokens // 2, seen])


@each
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_surface_in_their_output_alone(backend, value):
    weight = random_weight((48, 64), 0.6)
    weight[5, 33] = value
    packed = backend.pack(weight)
    for tokens in token_counts(backend):
        x = random_input(tokens, 64)
        found, dense = product(backend, x, packed), x.double() @ weight.double().T
        others = torch.arange(48) != 5
        assert found[:, others].isfinite().all()
        assert_same_kind(found[:, 5], dense[:, 5])


def assert_same_kind(found, dense):
    """Both NaN, both the same infinity, or both finite."""
    assert torch.equal(found.isnan(), dense.isnan())
    infinite = dense.isinf()
    assert torch.equal(found.isinf(), infinite)
    assert torch.equal(found[infinite].double(), dense[infinite])
