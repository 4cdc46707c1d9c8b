"""The native kernels at each of their instruction sets, and under the sanitizers of the compiler."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from kernel_cases import assert_close, random_input, random_weight

from sparsearch.errors import ResourceError
from sparsearch.hardware import native
from sparsearch.hardware.kernels import BACKENDS
from sparsearch.hardware.kernels.csr16 import chunk_tensors
from sparsearch.hardware.native.memory import ALIGNMENT, SLAB, Slabs

SOURCES = Path(native.__file__).parent
NAMES = ("bitmask_fp32", "bitmask_bf16", "bitmask_fp16", "bitmask_int8", "dense_bf16", "dense_fp16", "csr16")
built = pytest.mark.skipif(native.unavailable() is not None, reason="the native library was not built")


@pytest.fixture
def use_level():
    library = native.library()
    yield library.sparsearch_use_level
    library.sparsearch_use_level(len(native.LEVELS))


@built
@pytest.mark.parametrize("level", range(len(native.LEVELS)), ids=native.LEVELS)
@pytest.mark.parametrize("name", NAMES)
def test_every_set_of_instructions_gives_the_same(name, level, use_level):
    if level > native.LEVELS.index(native.level()):
        pytest.skip(f"this processor has {native.level()}")
    use_level(level)
    backend = BACKENDS[name]
    for shape in ((1, 1), (37, 131), (130, 300)):
        weight = random_weight(shape, 0.6)
        packed = backend.pack(weight)
        for tokens in (1, 2, 3, 5, 8, 9, 17, 33, 64, 70):
            x = random_input(tokens, shape[1])
            for values in (x, x.bfloat16().float(), x.bfloat16()):
                assert_close(backend, backend.matmul(values, packed), values, weight)
            x[0, 0] = float("inf")
            wanted = (x.double() @ weight.double().T)[0]
            assert torch.equal(backend.matmul(x, packed)[0].isnan(), wanted.isnan())


@built
@pytest.mark.parametrize("name", [name for name in NAMES if name != "bitmask_int8"])
def test_the_largest_inputs_do_not_overflow(name, use_level):
    """Rounded to bfloat16 they would be infinite. Sums of int8 steps are larger than products, and do overflow."""
    backend = BACKENDS[name]
    packed = backend.pack(torch.full((4, 2), 0.5) * torch.eye(4, 2))
    x = torch.full((9, 2), torch.finfo(torch.float32).max)
    for level in range(native.LEVELS.index(native.level()) + 1):
        use_level(level)
        assert torch.allclose(backend.matmul(x, packed)[:, :2], x / 2)


@built
@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_threads_gives_the_same_bits(name):
    backend = BACKENDS[name]
    weight = random_weight((300, 200), 0.7)
    packed = backend.pack(weight)
    before = torch.get_num_threads()
    try:
        for tokens in (1, 20, 40):
            x = random_input(tokens, 200)
            found = []
            for threads in (1, 2, 3, 5):
                torch.set_num_threads(threads)
                found.append(backend.matmul(x, packed))
            assert all(torch.equal(other, found[0]) for other in found)
    finally:
        torch.set_num_threads(before)


@built
def test_inputs_of_very_different_size_keep_float32_accuracy_with_int8_weights():
    backend = BACKENDS["bitmask_int8"]
    weight = torch.randint(-127, 128, (64, 256), generator=torch.Generator().manual_seed(0)).float()
    weight[:, 0] = 127
    x = random_input(2, 256)
    x[0, 3] = 1000
    x[1] *= 1e-20
    found = backend.matmul(x, backend.pack(weight)).double()
    wanted = x.double() @ weight.double().T
    size = x.double().abs() @ weight.double().abs().T
    assert ((found - wanted).abs() <= 1e-5 * size).all()


@built
@pytest.mark.parametrize("name", ["bitmask_fp16", "dense_fp16"])
def test_every_number_of_16_bits_is_widened_as_torch_does(name, use_level):
    """Subnormal ones, infinities and NaN included: a row each."""
    numbers = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.float16).view(-1, 1)
    backend = BACKENDS[name]
    packed, x = backend.pack(numbers), torch.ones(1, 1)
    for level in range(native.LEVELS.index(native.level()) + 1):
        use_level(level)
        found, wanted = backend.matmul(x, packed)[0], numbers[:, 0].float()
        assert torch.equal(found.isnan(), wanted.isnan())
        assert torch.equal(found[~wanted.isnan()], wanted[~wanted.isnan()])


@built
def test_packed_tensors_lie_on_cache_lines():
    for name in NAMES:
        packed = BACKENDS[name].pack(random_weight((70, 90), 0.5))
        moved = {key: torch.cat((value[:1], value))[1:] for key, value in packed.tensors.items()}
        for tensors in (packed.tensors, BACKENDS[name].open((70, 90), moved).tensors):
            assert all(tensor.data_ptr() % ALIGNMENT == 0 for tensor in tensors.values())


def test_memory_is_handed_out_once():
    slabs = Slabs()
    tensors = [torch.arange(n, dtype=torch.int64) + n for n in (1, 7, 0, 1000, SLAB // 8, 3, SLAB // 4)]
    placed = [slabs.place(tensor) for tensor in tensors]
    placed[1].zero_()
    for index, (tensor, copy) in enumerate(zip(tensors, placed, strict=True)):
        assert index == 1 or torch.equal(tensor, copy)
    assert torch.equal(slabs.place(torch.eye(3, dtype=torch.bfloat16).T), torch.eye(3, dtype=torch.bfloat16))


@built
def test_what_is_stored_is_no_more_than_mask_and_values():
    weight = random_weight((128, 256), 0.6)
    count = int((weight != 0).sum())
    for name, each in (("bitmask_fp32", 4), ("bitmask_bf16", 2), ("bitmask_fp16", 2), ("bitmask_int8", 1)):
        packed = BACKENDS[name].pack(weight)
        rest = packed.bytes - count * each - weight.numel() // 8
        assert 0 <= rest <= 64 + 64 * 8 + 128 * 8
    assert chunk_tensors(weight)["indices"].nbytes == 2 * count
    assert BACKENDS["dense_fp16"].pack(weight).bytes == 2 * weight.numel()


@built
@pytest.mark.parametrize("name", NAMES)
def test_stored_tensors_that_do_not_fit_together_are_refused(name):
    backend = BACKENDS[name]
    stored = dict(backend.pack(random_weight((70, 90), 0.5)).tensors)
    damages = [{key: value[:-1]} for key, value in stored.items()]
    damages += [{key: value.double()} for key, value in stored.items()]
    for key in ("masks", "offsets", "starts", "indices"):
        if key in stored:
            other = stored[key].clone()
            other.view(-1)[-1] += 99
            damages.append({key: other})
    for damage in damages:
        with pytest.raises(ResourceError, match=f"{name}: the stored tensors are not those of a weight 70 x 90"):
            backend.open((70, 90), stored | damage)
    for shape in ((140, 90), (70, 200), (70, 5 if name == "csr16" else 64)):
        with pytest.raises(ResourceError):
            backend.open(shape, stored)
    with pytest.raises(ValueError, match=r"x has shape \[2, 91\]; the weight takes \[\.\.\., 90\]"):
        backend.matmul(random_input(2, 91), backend.open((70, 90), stored))


def test_columns_beyond_16_bits_are_refused():
    assert BACKENDS["csr16"].refuses((4, 65536), torch.float32, "0.5") is None
    assert "up to 65536 columns; found 65537" in BACKENDS["csr16"].refuses((4, 65537), torch.float32, "0.5")


def test_a_library_that_is_missing_is_told(monkeypatch):
    monkeypatch.setattr(native, "library", lambda: None)
    for name in NAMES:
        assert "was not built" in BACKENDS[name].unavailable()


def test_a_library_of_another_version_is_told(monkeypatch):
    # The process itself has none of our functions.
    monkeypatch.setattr(native, "library", lambda: native._declare(ctypes.CDLL(None)))
    for name in NAMES:
        assert "another version" in BACKENDS[name].unavailable()


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_sanitizers_find_nothing(sanitizer, tmp_path):
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    program = tmp_path / "check"
    files = [*sorted(SOURCES.glob("*.cpp")), Path(__file__).with_name("native_check.cpp")]
    flags = ["-std=c++17", "-O1", "-g", "-pthread", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    built = subprocess.run(
        [compiler, *flags, f"-I{SOURCES}", *map(str, files), "-o", str(program), "-ldl"], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
