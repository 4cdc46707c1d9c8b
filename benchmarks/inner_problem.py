"""What a round of `quadratic` takes outside the model: predictions and exact knapsacks at the size of an 8B model.

224 sites with the shapes of Llama-3-8B, 19 levels, sensitivities of 512 sequences in all, as random numbers of the
right scale: gradients and features grow with the square of a level's distance. Timed is the making of all proposals
of a stalled round, with one bound and with two. Target: seconds, not minutes.
"""

from __future__ import annotations

from statistics import median

import numpy as np
from common import SEED, Check, finish, interleaved, median_timing, parse_arguments

from sparsearch.model.site import Site
from sparsearch.search import Problem, check_searcher
from sparsearch.search.quadratic import Quadratic, State
from sparsearch.search.surrogate import Surrogate
from sparsearch.seeds import spawn
from sparsearch.space import Budget, SearchSpace, linear_space
from sparsearch.space.level import level_grid
from sparsearch.space.repair import uniform
from sparsearch.space.sensitivities import Sensitivities

BLOCK = {
    "self_attn.q_proj": (4096, 4096), "self_attn.k_proj": (1024, 4096), "self_attn.v_proj": (1024, 4096),
    "self_attn.o_proj": (4096, 4096), "mlp.gate_proj": (14336, 4096), "mlp.up_proj": (14336, 4096),
    "mlp.down_proj": (4096, 14336),
}  # fmt: skip
SECONDS = 10.0


def space_of(blocks: int) -> SearchSpace:
    """The sites of so many blocks."""
    sites = [
        Site(f"model.layers.{block}.{kind}", f"model.layers.{block}.{kind}", kind, block, shape)
        for block in range(blocks)
        for kind, shape in BLOCK.items()
    ]
    grid = level_grid([round(0.10 + 0.05 * step, 2) for step in range(18)])
    return linear_space(sites, grid, itemsize=2)


def sensed(space: SearchSpace, levels: np.ndarray, sequences: int, rng: np.random.Generator) -> Sensitivities:
    """Sensitivities of `sequences` at `levels`, zero where nothing moves."""
    distance = np.nan_to_num(space.sparsities) - space.sparsities[np.arange(len(space)), levels][:, None]
    scale = rng.lognormal(size=(1, len(space), 1)) / len(space)
    draw = rng.normal(size=(2, sequences, len(space), 1))
    gradient = scale * (0.3 + draw[0]) * distance
    return Sensitivities(gradient.astype(np.float32), (scale**0.5 * draw[1] * distance).astype(np.float32))


def main() -> None:
    given = parse_arguments("inner_problem", __doc__, rounds=5)
    blocks, sequences = (4, 32) if given.quick else (32, 512)
    space = space_of(blocks)
    budgets = {"one bound": Budget(sparsity=0.6), "two bounds": Budget(sparsity=0.6, bytes="0.46x")}
    cases = {}
    for name, budget in budgets.items():
        problem = Problem(space, budget.limits(space), 2 * sequences, 2048)
        searcher = Quadratic(problem, check_searcher("quadratic", {}), spawn(SEED, name))
        here = uniform(space, problem.limits)
        surrogate = Surrogate(fading=0.5)
        surrogate.add(here, sensed(space, here.array, sequences, spawn(SEED, "sensitivities")))
        state = State(here, sequences, radius=2, stalled=1)
        cases[name] = lambda searcher=searcher, state=state, surrogate=surrogate: searcher._proposals(state, surrogate)
    timings = interleaved(cases, 1 if given.quick else given.rounds)
    rows = [
        {"budget": name, "sites": len(space), "levels": 19, "sequences": sequences, "wall s": median_timing(taken).wall}
        for name, taken in timings.items()
    ]
    worst = max(median(timing.wall for timing in taken) for taken in timings.values())
    finish(given, rows, [Check("seconds of a stalled round's inner problem", worst, SECONDS)])


if __name__ == "__main__":
    main()
