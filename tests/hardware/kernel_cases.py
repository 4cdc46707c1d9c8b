"""Weights and inputs that every kernel backend is tried on, and what it should give."""

import torch

from sparsearch.hardware.kernels import BACKENDS, Backend

SHAPES = ((1, 1), (3, 5), (16, 16), (32, 64), (37, 131), (64, 48), (65, 63), (130, 257))
AVAILABLE = [backend for backend in BACKENDS.values() if backend.unavailable() is None]


def random_weight(shape, sparsity, seed=0, dtype=torch.float32):
    """Gaussian, with zeros anywhere, one empty row and one full row where there are more than two."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator)
    weight[torch.rand(shape, generator=generator) < sparsity] = 0
    if shape[0] > 2:
        weight[1] = 0
        weight[2] = torch.randn(shape[1], generator=generator)
    return weight.to(dtype)


def random_input(tokens, width, seed=1, dtype=torch.float32):
    return torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed)).to(dtype)


def token_counts(backend: Backend):
    return [tokens for tokens in (1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 64, 70, 130) if backend.serves(tokens)]


def product(backend, x, packed):
    """As `matmul`, on the backend's device and back."""
    return backend.matmul(x.to(backend.device), packed).cpu()


def assert_close(backend, found, x, weight):
    """Against float64, relative to the sum of absolute products."""
    assert found.dtype == x.dtype
    assert found.shape == (x.shape[0], weight.shape[0])
    wanted = x.double() @ weight.double().T
    size = x.double().abs() @ weight.double().abs().T
    if backend.name == "bitmask_int8":
        # Half a step of each stored weight, and inputs to 24 bits below the token's largest.
        steps = x.double().abs() @ (weight != 0).double().T * weight.double().abs().amax(1) / 254
        inputs = 2.0**-23 * x.double().abs().amax(1)[:, None] * weight.double().abs().sum(1)
        return assert_below(found, wanted, 1e-5 * size + steps + inputs, x.dtype)
    return assert_below(found, wanted, backend.tolerance * size, x.dtype)


def assert_below(found, wanted, allowed, dtype):
    rounding = 0.0 if dtype == torch.float32 else torch.finfo(dtype).eps
    error = (found.double() - wanted).abs()
    assert bool((error <= allowed + rounding * wanted.abs()).all()), float((error - allowed).max())
