import pytest
import torch
from kernel_cases import SHAPES, random_weight

from sparsearch.errors import ResourceError
from sparsearch.hardware.kernels import BACKENDS, StoredBackend
from sparsearch.hardware.kernels.bitmask_int8 import BitmaskInt8
from sparsearch.hardware.kernels.blocks import all_finite

STORED = [
    backend
    for backend in BACKENDS.values()
    if isinstance(backend, StoredBackend) and backend.unavailable() is None and backend.device == "cpu"
]
each = pytest.mark.parametrize("backend", STORED, ids=lambda backend: backend.name)


def refused(backend, shape, tensors):
    with pytest.raises(ResourceError, match=rf"^{backend.name}: "):
        backend.check(shape, tensors)


@each
@pytest.mark.parametrize("sparsity", [0.0, 0.6, 1.0])
def test_unpacking_gives_the_values_that_were_packed(backend, sparsity):
    for shape in SHAPES:
        weight = random_weight(shape, sparsity)
        packed = backend.pack(weight)
        backend.check(shape, packed.tensors)
        found = backend.unpack(shape, packed.tensors)
        if isinstance(backend, BitmaskInt8):
            assert ((found - weight).abs() <= weight.abs().amax(1, keepdim=True) / 254 + 1e-6).all()
        else:
            assert torch.equal(found.float(), weight.to(found.dtype).float())


@each
def test_a_tensor_that_is_missing_or_of_another_type_is_refused(backend):
    shape = (37, 131)
    tensors = dict(backend.pack(random_weight(shape, 0.5)).tensors)
    for name in tensors:
        refused(backend, shape, {key: tensor for key, tensor in tensors.items() if key != name})
        refused(backend, shape, tensors | {name: tensors[name].to(torch.complex64)})


@each
def test_another_shape_is_refused(backend):
    tensors = backend.pack(random_weight((64, 128), 0.5)).tensors
    refused(backend, (640, 128), tensors)
    if backend.name != "torch_csr":  # whose columns may be of a wider weight
        refused(backend, (64, 400), tensors)


@pytest.mark.parametrize(
    ("name", "tensor", "index", "value"),
    [
        ("torch_csr", "col", 3, 4000),
        ("torch_csr", "col", 3, -1),
        ("torch_csr", "crow", 2, 10**6),
        ("torch_csr", "crow", -1, 10**6),
        ("csr16", "indices", 0, 4000),
        ("csr16", "indices", 0, -1),
        ("csr16", "starts", 1, 10**6),
        ("csr16", "starts", -1, 10**6),
        ("bitmask_fp32", "offsets", 1, 10**6),
        ("bitmask_fp32", "offsets", 0, -5),
        ("bitmask_fp32", "masks", (0, 0, 0), -1),
        ("bitmask_int8", "offsets", 3, 10**6),
    ],
)
def test_what_would_name_memory_outside_is_refused(name, tensor, index, value):
    backend = BACKENDS[name]
    if backend.unavailable():
        pytest.skip(backend.unavailable())
    shape = (37, 131)
    tensors = {key: stored.clone() for key, stored in backend.pack(random_weight(shape, 0.5)).tensors.items()}
    tensors[tensor][index] = value
    refused(backend, shape, tensors)


def test_values_that_are_cut_off_are_refused():
    backend = BACKENDS["bitmask_fp32"]
    if backend.unavailable():
        pytest.skip(backend.unavailable())
    tensors = dict(backend.pack(random_weight((64, 128), 0.5)).tensors)
    tensors["values"] = tensors["values"][:-1]
    refused(backend, (64, 128), tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_value_that_is_not_finite_is_found(dtype):
    values = torch.randn(1000).to(dtype)
    assert all_finite(values) and all_finite(values[:0])
    for place in (0, 500, 999):
        for value in (float("inf"), float("-inf"), float("nan")):
            spoilt = values.clone()
            spoilt[place] = value
            assert not all_finite(spoilt)
