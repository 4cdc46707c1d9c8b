"""Every CPU kernel that is available here against the best dense product of the libraries, which is the faster of
`F.linear` and oneDNN on a weight in its own layout, cell by cell.

Each round takes all kernels of a cell once, in turning order, on another copy of the weights, so that every product
finds its weights outside the caches. Times are of the whole call, with one thread processor time of that thread
(another process on the core does not count), with more on the clock; medians over rounds. The bandwidth is that of the
fastest of some reductions (`READERS`) over large pages, measured before each cell, the median of all. Targets, for
one token at 60 %: 3 times the best dense product, and no more than 1 / 0.7 of the time in which the stored bytes can
be read. Float32 values with their masks are 0.43 of the dense bytes there, which allows them 2.3 times where dense
products read at memory's pace as well: only the second target is theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from statistics import geometric_mean, median

import numpy as np
import torch
from common import SEED, Check, finish, parse_arguments
from torch import Tensor

from sparsearch.hardware.kernels import BACKENDS, Backend, Packed
from sparsearch.hardware.native.memory import SLABS
from sparsearch.seeds import spawn_integer

SHAPES = ((1024, 1024), (2816, 1024), (4096, 1024), (4096, 4096))
TOKENS = (1, 4, 16, 64, 256)
SPARSITIES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
DENSE = ("dense", "dense_prepacked")
OWN = {"bitmask_fp32": None, "bitmask_bf16": 3.0}
"""The kernels with targets, and how many times as fast as the best dense product they are to be."""
CACHE = 80 * 2**20
SECONDS = 1.5
"""Of a cell; what is slower than that has fewer rounds, but 3."""
READERS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda part: part.sum(),
    lambda part: torch.dot(part, part),
    lambda part: part.view(-1, 4096) @ part[:4096],
)
"""Which of them memory bounds alone depends on the processor: `max` read at two thirds of the others' pace on one."""


@dataclass(frozen=True)
class Cell:
    """Median seconds of one kernel, and of the best dense product in the same rounds; bytes, and bytes a second."""

    threads: int
    shape: tuple[int, int]
    tokens: int
    sparsity: float
    kernel: str
    seconds: float
    dense: float
    stored: int
    bandwidth: float

    @property
    def speedup(self) -> float:
        return self.dense / self.seconds

    @property
    def of_bound(self) -> float:
        """Time in which the stored bytes can be read, as a share of the time taken."""
        return self.stored / self.bandwidth / self.seconds


def main() -> None:
    given = parse_arguments("kernels", __doc__, rounds=21, threads=(1, 2))
    shapes, tokens, sparsities = (SHAPES, TOKENS, SPARSITIES)
    if given.quick:
        shapes, tokens, sparsities, given.rounds = ((256, 256),), (1, 16), (0.6, 0.9), 3
    cells: list[Cell] = []
    for threads in sorted(set(given.threads)):
        torch.set_num_threads(threads)
        measured = [
            cell
            for shape in shapes
            for sparsity in sparsities
            for cell in measure(threads, shape, sparsity, tokens, given.rounds)
        ]
        # One figure for all: single ones differ by a third where others use the memory too.
        bandwidth = median(cell.bandwidth for cell in measured)
        cells += [replace(cell, bandwidth=bandwidth) for cell in measured]
    draw(cells, given.out.with_suffix(".png"))
    finish(given, rows(cells), checks(cells), cells=[asdict(cell) for cell in cells])


def measure(threads: int, shape: tuple[int, int], sparsity: float, tokens: Iterable[int], rounds: int) -> list[Cell]:
    """All kernels on one weight."""
    weight = random_weight(shape, sparsity)
    kernels = [kernel for kernel in BACKENDS.values() if usable(kernel, shape, str(sparsity))]
    packed = {kernel.name: kernel.pack(weight) for kernel in kernels}
    count = 2 + CACHE // sum(one.bytes for one in packed.values())
    copies = {kernel.name: [copied(kernel, packed[kernel.name]) for _ in range(count)] for kernel in kernels}
    found = []
    for number in tokens:
        x = torch.randn(number, shape[1], generator=torch.Generator().manual_seed(spawn_integer(SEED, "x", number)))
        bandwidth = read_bandwidth(threads)
        times = interleaved(kernels, copies, x, rounds, clock(threads))
        medians = {name: median(taken) for name, taken in times.items()}
        dense = min(medians[name] for name in DENSE if name in medians)
        for name, seconds in medians.items():
            where = (threads, shape, number, sparsity, name)
            found.append(Cell(*where, seconds, dense, packed[name].bytes, bandwidth))
    return found


def interleaved(
    kernels: Sequence[Backend],
    copies: dict[str, list[Packed]],
    x: Tensor,
    rounds: int,
    now: Callable[[], float],
) -> dict[str, list[float]]:
    """Seconds of each round, the first one not counted."""
    times: dict[str, list[float]] = {kernel.name: [] for kernel in kernels}
    start = time.perf_counter()
    for number in range(rounds + 1):
        for kernel in kernels[:: -1 if number % 2 else 1]:
            weight = copies[kernel.name][number % len(copies[kernel.name])]
            before = now()
            kernel.matmul(x, weight)
            if number:
                times[kernel.name].append(now() - before)
        if number >= 3 and time.perf_counter() - start > SECONDS:
            break
    return times


def clock(threads: int) -> Callable[[], float]:
    """Processor time of this thread, where it works alone, else time."""
    return time.thread_time if threads == 1 else time.perf_counter


def read_bandwidth(threads: int) -> float:
    """Bytes a second of reductions over more memory than the caches hold, on large pages as our kernels use them."""
    parts = large_memory()
    return parts[0].nbytes / min(reading(reader, parts, clock(threads)) for reader in READERS)


def reading(reader: Callable[[Tensor], Tensor], parts: Tensor, now: Callable[[], float]) -> float:
    """Seconds that it takes for a part, once it has been through all of them."""
    taken = []
    for part in [*parts, *parts]:
        before = now()
        reader(part)
        taken.append(now() - before)
    return median(taken[len(parts) :])


@cache
def large_memory() -> Tensor:
    """Eight parts."""
    return SLABS.place(torch.ones(8, CACHE // 4 // 8))


def random_weight(shape: tuple[int, int], sparsity: float) -> Tensor:
    """Gaussian with zeros anywhere."""
    generator = torch.Generator().manual_seed(spawn_integer(SEED, "weight", *shape, str(sparsity)))
    kept = torch.rand(shape, generator=generator) >= sparsity
    return torch.randn(shape, generator=generator) * kept


def usable(kernel: Backend, shape: tuple[int, int], label: str) -> bool:
    """On the CPU, here, and for this weight."""
    fits = kernel.device == "cpu" and kernel.unavailable() is None
    return fits and kernel.refuses(shape, torch.float32, label) is None


def copied(kernel: Backend, packed: Packed) -> Packed:
    """The same in other memory."""
    return kernel.open(packed.shape, {name: tensor.clone() for name, tensor in packed.tensors.items()})


def rows(cells: Sequence[Cell]) -> list[dict[str, object]]:
    """Speed-up over the best dense product, the geometric mean of the shapes, and where it begins."""
    found = []
    for threads, tokens, kernel in sorted({(c.threads, c.tokens, c.kernel) for c in cells}):
        own = [c for c in cells if (c.threads, c.tokens, c.kernel) == (threads, tokens, kernel)]
        sparsities = sorted({c.sparsity for c in own})
        speedups = {
            f"{sparsity:.0%}": geometric_mean([c.speedup for c in own if c.sparsity == sparsity])
            for sparsity in sparsities
        }
        even = [break_even([c for c in own if c.shape == shape]) for shape in sorted({c.shape for c in own})]
        found.append({"kernel": kernel, "threads": threads, "tokens": tokens, **speedups, "even from": span(even)})
    return found


def break_even(cells: Sequence[Cell]) -> float:
    """Sparsity from which on a kernel is faster than dense, between the measured ones by a straight line.

    The lowest measured one where it is faster from there on; infinite where it is not at the highest.
    """
    ordered = sorted(cells, key=lambda cell: cell.sparsity)
    if ordered[-1].speedup < 1:
        return np.inf
    slower = [i for i, cell in enumerate(ordered) if cell.speedup < 1]
    if not slower:
        return ordered[0].sparsity
    below, above = ordered[slower[-1]], ordered[slower[-1] + 1]
    share = (1 - below.speedup) / (above.speedup - below.speedup)
    return below.sparsity + share * (above.sparsity - below.sparsity)


def span(values: Sequence[float]) -> str:
    """Lowest and highest over the shapes."""
    low, high = (f"{value:.0%}" if np.isfinite(value) else "never" for value in (min(values), max(values)))
    return low if low == high else f"{low}..{high}"


def checks(cells: Sequence[Cell]) -> list[Check]:
    """The targets, over all shapes."""
    found = []
    for threads in sorted({c.threads for c in cells}):
        for name, lead in OWN.items():
            own = [c for c in cells if (c.threads, c.tokens, c.sparsity, c.kernel) == (threads, 1, 0.6, name)]
            if own:
                where = f"{name}, one token, 60 %, {threads} threads"
                farthest = max(1 / c.of_bound for c in own)
                if lead is not None:
                    slowest = max(1 / c.speedup for c in own)
                    found.append(Check(f"{where}: time / best dense, worst shape", slowest, 1 / lead))
                found.append(Check(f"{where}: time / reading its bytes, worst shape", farthest, 1 / 0.7))
    return found


def draw(cells: Sequence[Cell], path: Path) -> None:
    """Speed-up against sparsity, a panel for each number of tokens and threads."""
    from matplotlib.figure import Figure

    shown = rows(cells)
    tokens, threads = sorted({c.tokens for c in cells}), sorted({c.threads for c in cells})
    names = [name for name in BACKENDS if name in {c.kernel for c in cells} and name not in DENSE]
    figure = Figure(figsize=(3.2 * len(tokens), 3.0 * len(threads)), layout="constrained")
    panels = figure.subplots(len(threads), len(tokens), squeeze=False)
    for row, thread in zip(panels, threads, strict=True):
        for axes, number in zip(row, tokens, strict=True):
            for colour, name in enumerate(names):
                own = next(r for r in shown if (r["kernel"], r["threads"], r["tokens"]) == (name, thread, number))
                points = [(float(key[:-1]), value) for key, value in own.items() if key.endswith("%")]
                axes.plot(*zip(*points, strict=True), color=f"C{colour}", marker=".", linewidth=1)
            axes.axhline(1, color="black", linewidth=0.6)
            axes.set(title=f"{number} tokens, {thread} threads", yscale="log", xlabel="sparsity, %")
    figure.axes[0].set_ylabel("times the best dense product")
    handles = [figure.axes[0].plot([], [], color=f"C{i}", label=name)[0] for i, name in enumerate(names)]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
