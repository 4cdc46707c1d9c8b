"""Search problems with an objective that is a formula."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparsearch.model.site import Site
from sparsearch.search.base import Answer, Measure, Problem, Rebuild, Request, Sense
from sparsearch.seeds import spawn
from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Budget
from sparsearch.space.level import level_grid
from sparsearch.space.repair import cheapest
from sparsearch.space.sensitivities import Sensitivities
from sparsearch.space.space import FloatArray, linear_space
from sparsearch.space.statistics import STATISTICS

GROUPED_QUERY_BLOCK: Mapping[str, tuple[int, int]] = {
    "self_attn.q_proj": (32, 32),
    "self_attn.k_proj": (8, 32),
    "self_attn.v_proj": (8, 32),
    "self_attn.o_proj": (32, 32),
    "mlp.gate_proj": (112, 32),
    "mlp.up_proj": (112, 32),
    "mlp.down_proj": (32, 112),
}
"""Kinds and shapes `[out, in]` of a Llama block with grouped-query attention, 1/128 of an 8B model's."""

TENTHS = tuple(step / 10 for step in range(1, 10))


@dataclass(frozen=True, eq=False)
class SyntheticProblem:
    """A problem whose objective on sequence q is `sum_u w[q, u] x_u^2 + interaction * (sum_u v_u x_u)^2`.

    Attributes:
        problem: what a searcher is given.
        errors: x as `[sites, max levels]`, growing with the level; 0 where dense or invalid.
        weights: w as `[sequences, sites]`, all 1 without noise.
        mixing: v as `[sites]`.
        interaction: how much the joint term counts; 0 makes the objective additive.
    """

    problem: Problem
    errors: FloatArray
    weights: FloatArray
    mixing: FloatArray
    interaction: float

    def values(self, allocations: Sequence[Allocation], sequences: Sequence[int]) -> FloatArray:
        """The objective `[allocations, sequences]`."""
        levels = np.array([allocation.levels for allocation in allocations])
        errors = self.errors[np.arange(levels.shape[1]), levels]
        joint = self.interaction * (errors @ self.mixing) ** 2
        return errors**2 @ self.weights[list(sequences)].T + joint[:, None]

    def answer(self, request: Request) -> Answer:
        """The answer to a searcher's request; read-only, as the journal's answers may be shared."""
        if isinstance(request, Sense):
            return self.sensitivities(request)
        if isinstance(request, Measure):
            values = self.statistic(request.statistic)
        elif isinstance(request, Rebuild):
            values = np.where(self.problem.space.valid, self.errors, np.nan)
        else:
            values = self.values(request.allocations, request.sequences)
        values.setflags(write=False)
        return values

    def sensitivities(self, request: Sense) -> Sensitivities:
        """Exact gradients; features r with `E[r r^T]` the exact curvature `2 diag(w) + 2 interaction * v v^T`."""
        rows = np.arange(len(self.mixing))
        now = self.errors[rows, request.allocation.array]
        moves = self.errors - now[:, None]
        weights = self.weights[list(request.sequences)]
        joint = 2 * self.interaction * (now @ self.mixing) * self.mixing
        gradient = (2 * weights * now + joint)[:, :, None] * moves
        # Drawn per request, so that asking again gives the same answer.
        rng = spawn(0, "probe", *request.allocation.levels, *request.sequences)
        count, repeated = len(weights), np.repeat(weights, request.draws, axis=0)
        single = np.sqrt(2 * repeated) * rng.normal(size=repeated.shape)
        shared = np.sqrt(2 * self.interaction) * self.mixing * rng.normal(size=(count * request.draws, 1))
        features = (single + shared)[:, :, None] * moves
        return Sensitivities(
            gradient.astype(np.float32) if request.gradient else None,
            features.astype(np.float32) if request.draws else None,
        )

    def statistic(self, name: str) -> FloatArray:
        """Made-up numbers above 0 of the shape that the statistic has; costs of levels grow with the level."""
        space = self.problem.space
        draws = np.exp(spawn(0, "statistic", name).normal(size=STATISTICS[name].shape(space)))
        if draws.ndim == 1:
            return draws
        return np.where(space.valid, np.nan_to_num(space.sparsities) * draws.cumsum(axis=1), 0.0)

    def mean(self, allocation: Allocation) -> float:
        """The objective over the whole panel: what a searcher is to minimise."""
        return float(self.values([allocation], range(self.problem.sequences)).mean())

    def additive_optimum(self) -> Allocation:
        """The best feasible allocation; of the additive part alone where there is an interaction."""
        costs = self.errors**2 * self.weights.mean(axis=0)[:, None]
        return cheapest(self.problem.space, self.problem.limits, costs)


def quadratic_problem(
    budget: Budget | None = None,
    *,
    block: Mapping[str, tuple[int, int]] = GROUPED_QUERY_BLOCK,
    blocks: int = 2,
    levels: Sequence[float | str] = TENTHS,
    sequences: int = 16,
    tokens: int = 128,
    interaction: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
) -> SyntheticProblem:
    """A problem with sites of unequal size and sensitivity.

    Args:
        budget: by default a sparsity of 0.6.
        block: kinds and shapes `[out, in]` of the sites of one block.
        blocks: number of blocks.
        levels: the grid, as in a job file.
        sequences: length of the panel.
        tokens: tokens of one sequence.
        interaction: weight of the joint term.
        noise: standard deviation of the sequences' log weights; 0 makes all sequences equal.
        seed: of sensitivities, mixing and noise.
    """
    sites = [
        Site(f"layers.{index}.{kind}", f"layers.{index}.{kind}", kind, index, shape)
        for index in range(blocks)
        for kind, shape in block.items()
    ]
    space = linear_space(sites, level_grid(list(levels)), itemsize=2, other_params=1000, other_flops=2000)
    rng = spawn(seed, "synthetic")
    sizes = np.array([site.size for site in sites], dtype=np.float64)
    sensitivity = np.exp(rng.normal(size=len(sites))) * sizes / sizes.sum()
    errors = np.sqrt(sensitivity)[:, None] * np.nan_to_num(space.sparsities) ** 1.5
    weights = np.exp(noise * rng.normal(size=(sequences, len(sites))))
    mixing = rng.normal(size=len(sites))
    limits = (budget or Budget(sparsity=0.6)).limits(space)
    problem = Problem(space, limits, sequences, tokens, errors=space.sparsities**3)
    return SyntheticProblem(problem, errors, weights, mixing, interaction)
