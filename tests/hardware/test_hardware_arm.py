"""The native kernels as 64-bit ARM has them: cross-compiled by ziglang, run by unicorn, against sums in float64.

Arrays end where the memory ends, so that reading or writing beyond them is an error.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsearch.hardware import native
from sparsearch.hardware.kernels import BACKENDS
from sparsearch.hardware.kernels.csr16 import CHUNK

SOURCES = Path(native.__file__).parent
PROGRAM = Path(__file__).with_name("arm_functions.cpp")
FUNCTIONS = ("best_level", "use_level", "bitmask", "bitmask_rows", "csr16")
MASKED = ("bitmask_fp32", "bitmask_bf16", "bitmask_fp16", "bitmask_int8")
NAMES = (*MASKED, "dense_bf16", "dense_fp16")
SHAPES = ((1, 1), (2, 64), (3, 5), (7, 131), (10, 63), (5, 200), (4, 257))
DENSITIES = (0.0, 0.05, 0.5, 1.0)
PORTABLE, NEON = 0, 1
ROUNDING = 3e-6
"""Of a float32 sum, relative to the sum of its absolute terms."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The program, of all files of the library: warnings are errors."""
    for package in ("ziglang", "unicorn"):
        pytest.importorskip(package, reason=f"{package} is not installed (pip install '.[arm]')")
    path = tmp_path_factory.mktemp("arm") / "functions"
    target = ["-target", "aarch64-linux-musl", "-static", "-pthread"]
    flags = ["-std=c++17", "-O2", "-g0", "-Wall", "-Werror", f"-I{SOURCES}"]
    files = [*map(str, sorted(SOURCES.glob("*.cpp"))), str(PROGRAM)]
    command = [sys.executable, "-m", "ziglang", "c++", *target, *flags, *files, "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path.read_bytes()


@pytest.fixture
def machine(compiled):
    from arm_machine import Machine

    return Machine(compiled, FUNCTIONS)


def whole_weight(shape, density, seed=0):
    """Multiples of 1/64 that every type of value holds exactly; some rows are empty."""
    generator = np.random.default_rng(seed)
    weight = generator.integers(-127, 128, shape) * (generator.random(shape) < density)
    # A row's largest value is that of its int8 steps.
    weight[np.arange(shape[0]), generator.integers(0, shape[1], shape[0])] = 127 if density else 0
    if shape[0] > 2:
        weight[1::3] = 0
    return (weight / 64).astype(np.float32)


def some_input(tokens, columns, seed=1):
    return np.random.default_rng(seed).standard_normal((tokens, columns)).astype(np.float32)


def lend_weight(machine, name, weight):
    """A weight, packed as on every machine, and its address there."""
    backend = BACKENDS[name]
    packed = backend.pack(torch.from_numpy(weight))
    found = {key: machine.lend(tensor.view(torch.uint8).numpy()) for key, tensor in packed.tensors.items()}
    found |= {"rows": weight.shape[0], "columns": weight.shape[1]}
    if name == "csr16":
        lent = native.Csr16Weight(chunks=-(-weight.shape[1] // CHUNK), **found)
    else:
        lent = native.BitmaskWeight(kind=backend.kind, finite=packed.handle.weight.finite, **found)
    return machine.lend(np.frombuffer(bytes(lent), np.uint8))


def product(machine, name, address, x, rows, level=NEON):
    machine.call("use_level", level)
    y = machine.lend(np.full((len(x), rows), 7, np.float32))
    function = "csr16" if name == "csr16" else "bitmask"
    assert machine.call(function, address, machine.lend(x), len(x), y, 1) == 0
    return machine.read(y, (len(x), rows))


def assert_sums(found, x, weight):
    wanted = x.astype(np.float64) @ weight.T.astype(np.float64)
    assert (np.abs(found - wanted) <= ROUNDING * (np.abs(x).astype(np.float64) @ np.abs(weight).T)).all()


def test_the_processor_is_known_to_have_neon(machine):
    for name in ("aarch64", "arm64"):
        assert native.levels_of(name)[machine.call("best_level")] == "neon"
    assert native.levels_of("x86_64")[0] == "portable"


@pytest.mark.parametrize("name", NAMES)
def test_one_to_eight_tokens_are_summed_as_in_float64(name, machine):
    for shape in SHAPES:
        for density in DENSITIES:
            weight = whole_weight(shape, density)
            address = lend_weight(machine, name, weight)
            for tokens in range(1, 9):
                x = some_input(tokens, shape[1])
                for level in (PORTABLE, NEON):
                    assert_sums(product(machine, name, address, x, shape[0], level), x, weight)
            machine.release()


@pytest.mark.parametrize("name", (*NAMES, "csr16"))
def test_more_tokens_are_summed_as_in_float64(name, machine):
    for shape, density in (((7, 131), 0.5), ((67, 70), 0.1)):
        weight = whole_weight(shape, density)
        address = lend_weight(machine, name, weight)
        for tokens in (1, 2, 9, 17, 33, 65):
            x = some_input(tokens, shape[1])
            assert_sums(product(machine, name, address, x, shape[0]), x, weight)
        machine.release()


@pytest.mark.parametrize("name", NAMES)
def test_infinite_and_nan_inputs_reach_all_that_they_reach_in_a_dense_product(name, machine):
    weight = whole_weight((7, 131), 0.5)
    address = lend_weight(machine, name, weight)
    for place in (0, 63, 64, 130):
        for value in (np.inf, -np.inf, np.nan):
            x = some_input(3, 131)
            x[1, place] = value
            with np.errstate(invalid="ignore"):
                wanted = x.astype(np.float64) @ weight.T.astype(np.float64)
            found = product(machine, name, address, x, 7)
            assert np.array_equal(np.isnan(found), np.isnan(wanted))
            assert np.array_equal(found[np.isinf(found)], wanted[np.isinf(wanted)])
            assert_sums(found[::2], x[::2], weight)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "bitmask_int8"])
def test_infinite_and_nan_weights_pass_through(name, machine):
    weight = whole_weight((7, 131), 0.5)
    weight[0, 3], weight[3, 64], weight[6, 130] = np.inf, -np.inf, np.nan
    x = some_input(5, 131)
    wanted = x.astype(np.float64) @ weight.T.astype(np.float64)
    found = product(machine, name, lend_weight(machine, name, weight), x, 7)
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    assert np.array_equal(found[np.isinf(found)], wanted[np.isinf(wanted)])
    assert_sums(found[:, [1, 2, 4, 5]], x, weight[[1, 2, 4, 5]])


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_widened_exactly(name, machine):
    for shape in ((7, 131), (2, 64), (3, 5)):
        weight = whole_weight(shape, 0.5)
        address = lend_weight(machine, name, weight)
        for level in (PORTABLE, NEON):
            machine.call("use_level", level)
            for first in range(0, shape[0], 2):
                to = machine.lend(np.full((shape[0] - first, shape[1]), 7, np.float32))
                machine.call("bitmask_rows", address, first, shape[0], to, 1)
                assert np.array_equal(machine.read(to, (shape[0] - first, shape[1])), weight[first:])
        machine.release()


@pytest.mark.parametrize("name", ["bitmask_fp16", "dense_fp16"])
def test_every_number_of_16_bits_is_widened_as_numpy_does(name, machine):
    """Subnormal ones, infinities and NaN included: a row each."""
    numbers = np.arange(2**16, dtype=np.uint16).view(np.float16)
    address = lend_weight(machine, name, numbers[:, None])
    found = product(machine, name, address, np.ones((1, 1), np.float32), len(numbers))[0]
    assert np.array_equal(found, numbers.astype(np.float32), equal_nan=True)
