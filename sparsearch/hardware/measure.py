"""Timing every backend on every product that a model's sites need."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparsearch.errors import ConfigError
from sparsearch.hardware.cells import DENSE_BACKENDS, NOISY, Cell
from sparsearch.hardware.kernels import BACKENDS, Backend, Packed
from sparsearch.hardware.table import Table, check_same_machine, read_table, write_table
from sparsearch.space.level import Level

CACHE_BYTES = 64 << 20
"""Copies of a weight are used in turn until they are this large together, so that none waits in the cache."""

MOST_COPIES = 256
SETUP_SECONDS = 0.06
"""Packing and copying for one cell: 14 to 109 ms were measured, a weight 128 x 352 on one thread of an EPYC."""

Clock = Callable[[], float]
Key = tuple[tuple[int, int], int, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured.

    Attributes:
        shapes: `(out, in)` of the weights.
        tokens: token counts.
        levels: dense first.
        device: "cpu" or "cuda".
        dtype: of weights and inputs.
        rounds: times that every product is timed.
        sample: seconds that one timing lasts at least; short products are repeated within it.
        among: names of the backends that are timed beside dense; None for all.
    """

    shapes: tuple[tuple[int, int], ...]
    tokens: tuple[int, ...]
    levels: tuple[Level, ...]
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    rounds: int = 15
    sample: float = 2e-3
    among: Collection[str] | None = None

    @property
    def dtype_name(self) -> str:
        """torch's name of the type."""
        return str(self.dtype).removeprefix("torch.")

    def backends(self, shape: tuple[int, int], tokens: int, level: Level) -> list[Backend]:
        """The device's available backends that serve the cell, dense first."""
        able = [
            backend
            for backend in BACKENDS.values()
            if backend.device == self.device
            and (self.among is None or backend.name in (*DENSE_BACKENDS, *self.among))
            and backend.unavailable() is None
            and backend.refuses(shape, self.dtype, level.label) is None
            and backend.serves(tokens)
        ]
        return sorted(able, key=lambda backend: backend.name not in DENSE_BACKENDS)

    def units(self, shape: tuple[int, int]) -> list[tuple[int, Level]]:
        """Token counts and levels of `shape`; the backends of one unit are timed in turn."""
        return [(tokens, level) for tokens in self.tokens for level in self.levels if level.fits(shape)]

    def keys(self, shape: tuple[int, int]) -> set[Key]:
        """Of all cells of `shape`, without the backend."""
        return {(shape, tokens, level.label) for tokens, level in self.units(shape)}

    def cells(self, shape: tuple[int, int]) -> int:
        """Number of cells of `shape`."""
        return sum(len(self.backends(shape, *unit)) for unit in self.units(shape))

    def least_seconds(self, shape: tuple[int, int]) -> float:
        """What `shape` takes at least: products longer than a sample and second measurements come on top."""
        return self.cells(shape) * ((self.rounds + 1) * self.sample + SETUP_SECONDS)


class Contender:
    """One backend with its copies of one weight, which are used in turn.

    Args:
        backend: what multiplies.
        weight: `[out, in]`, on the CPU.
        x: the input `[tokens, in]`, on the device.
        clock: seconds, once all work before is done.
        sample: seconds that one timing lasts at least.
    """

    def __init__(self, backend: Backend, weight: Tensor, x: Tensor, clock: Clock, sample: float) -> None:
        first = backend.pack(weight)
        copies = min(MOST_COPIES, max(1, math.ceil(CACHE_BYTES / max(1, first.bytes))))
        self.backend = backend
        self.bytes = first.bytes
        self._packed = [first, *(copy_packed(backend, first) for _ in range(copies - 1))]
        self._x = x
        self._clock = clock
        self._next = 0
        self._calls = 1
        self.seconds()  # libraries set themselves up in the first product
        self._calls = max(1, min(10_000, math.ceil(sample / max(self.seconds(), 1e-9))))

    def seconds(self) -> float:
        """Of one product, averaged over a sample."""
        matmul, x, packed = self.backend.matmul, self._x, self._packed
        turns = [packed[(self._next + call) % len(packed)] for call in range(self._calls)]
        self._next = (self._next + self._calls) % len(packed)
        started = self._clock()
        for copy in turns:
            matmul(x, copy)
        return (self._clock() - started) / self._calls


def left_to_measure(plan: Plan, table: Table) -> list[tuple[int, int]]:
    """Shapes of `plan` with a cell that `table` lacks."""
    done = {(cell.shape, cell.tokens, cell.label) for cell in table.cells}
    return [shape for shape in plan.shapes if not plan.keys(shape) <= done]


def open_table(path: Path, fingerprint: Mapping[str, str | int], rounds: int) -> Table:
    """The table to go on with: that in `path`, or an empty one where there is none.

    Raises:
        ConfigError: it was measured under other conditions, or `path` is a folder.
    """
    if path.is_dir():
        raise ConfigError(f"--out: {path} is a folder; give the name of a file")
    if not path.exists():
        return Table(dict(fingerprint), rounds)
    table = read_table(path)
    check_same_machine(path, table, fingerprint, rounds)
    return table


def measure(
    plan: Plan,
    table: Table,
    path: Path,
    *,
    clock: Clock | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Table:
    """`table` with the missing shapes of `plan` in it; `path` holds it after every shape.

    A shape that is missing in part is measured as a whole, so that all its ratios are to the same dense.

    Args:
        plan: what to measure.
        table: finished cells (`open_table`).
        path: where to write.
        clock: seconds; left out: the machine's own, after the device is done.
        progress: told the shapes done and in all.
    """
    clock = clock or device_clock(plan.device, torch.get_num_threads())
    missing = left_to_measure(plan, table)
    for done, shape in enumerate(missing):
        progress(done, len(missing))
        cells = measure_shape(plan, shape, clock)
        kept = tuple(cell for cell in table.cells if (cell.shape, cell.tokens, cell.label) not in plan.keys(shape))
        table = replace(table, cells=(*kept, *cells))
        write_table(path, table)
    progress(len(missing), len(missing))
    return table


def measure_shape(plan: Plan, shape: tuple[int, int], clock: Clock) -> list[Cell]:
    """All cells of one shape. Every unit times dense beside the others, and tells by it whether the machine drifted."""
    cells: list[Cell] = []
    for tokens in plan.tokens:
        found = [
            (level, backend, measured)
            for count, level in plan.units(shape)
            if count == tokens
            for backend, measured in measure_unit(plan, shape, tokens, level, clock).items()
        ]
        dense = float(np.median(np.concatenate([times.dense for _, _, times in found])))
        for level, backend, times in found:
            own, beside = float(np.median(times.own)), float(np.median(times.dense))
            cells.append(Cell(
                backend, shape, tokens, 1 - level.removed(shape) / math.prod(shape), own, plan.dtype_name, level.label,
                ratio=times.ratio, dense_seconds=beside, spread=times.spread, drift=abs(beside / dense - 1),
                bytes=times.bytes,
            ))  # fmt: skip
    return cells


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """Of one cell: seconds a round, those of dense in the same rounds, and the size of the packed weight."""

    own: np.ndarray
    dense: np.ndarray
    bytes: int

    @property
    def ratio(self) -> float:
        """To dense, median over rounds: what slows a whole round down cancels."""
        return float(np.median(self.own / self.dense))

    @property
    def spread(self) -> float:
        """Interquartile range over median, of times or ratios."""
        return max(interquartile(self.own), interquartile(self.own / self.dense))


def measure_unit(plan: Plan, shape: tuple[int, int], tokens: int, level: Level, clock: Clock) -> dict[str, Times]:
    """Times of all backends at one shape, token count and level, by name.

    Backends are timed in turn, all of them in every round. Cells that spread too far are timed once more beside
    dense, and the quieter of the two counts.
    """
    weight = pruned_weight(shape, level, plan.dtype)
    x = torch.randn(tokens, shape[1], generator=torch.Generator().manual_seed(1)).to(plan.dtype).to(plan.device)
    backends = plan.backends(shape, tokens, level)
    contenders = [Contender(backend, weight, x, clock, plan.sample) for backend in backends]
    found = _rounds(contenders, plan.rounds)
    noisy = [one for one in contenders[1:] if found[one.backend.name].spread > NOISY]
    if noisy or found[contenders[0].backend.name].spread > NOISY:
        for name, times in _rounds([contenders[0], *noisy], plan.rounds).items():
            found[name] = min(found[name], times, key=lambda either: either.spread)
    return found


def pruned_weight(shape: tuple[int, int], level: Level, dtype: torch.dtype) -> Tensor:
    """A random weight `[out, in]` with the zeros of `level` at random positions, the same each time."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator)
    scores = torch.rand(shape, generator=generator)
    if level.group:
        groups = scores.reshape(-1, level.group)
        gone = round(level.sparsity * level.group)
        groups = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, groups.topk(gone).indices, True)
        return weight.masked_fill_(groups.reshape(shape), 0).to(dtype)
    order = scores.flatten().argsort()
    weight.view(-1)[order[: level.removed(shape)]] = 0
    return weight.to(dtype)


@contextmanager
def pinned_threads(threads: int) -> Iterator[None]:
    """torch, and our kernels with it, use so many threads within."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def interquartile(values: Sequence[float] | np.ndarray) -> float:
    """Range over median."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float((high - low) / middle)


def _rounds(contenders: Sequence[Contender], rounds: int) -> dict[str, Times]:
    times = np.array([[contender.seconds() for contender in contenders] for _ in range(rounds)])
    return {
        contender.backend.name: Times(times[:, index], times[:, 0], contender.bytes)
        for index, contender in enumerate(contenders)
    }


def copy_packed(backend: Backend, packed: Packed) -> Packed:
    """The same in memory of its own."""
    return backend.open(packed.shape, {name: tensor.clone() for name, tensor in packed.tensors.items()})


def device_clock(device: str, threads: int) -> Clock:
    """Seconds, once the device has done all work before; with one thread on the CPU its processor time.

    While other processes had the core, time went on and the product did not: of the runs of the reference model on a
    busy machine some took twice as long as others, which no median mends; their processor time was within 10 %. Work
    of several threads ends with the last one, which no processor time tells.
    """
    if device == "cpu":
        return time.thread_time if threads == 1 else time.perf_counter

    def finished() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return finished
