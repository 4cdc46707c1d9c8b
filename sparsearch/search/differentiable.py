"""A relaxed choice of levels, trained by gradients with prices on the budget, then discretised exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from scipy.special import log_softmax, softmax

from sparsearch.search.base import Evaluate, Options, Progress, Searcher, Sense, Steps
from sparsearch.search.checks import number, positive_integer
from sparsearch.search.scores import draw_sequences
from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Limits
from sparsearch.space.repair import cheapest, repair
from sparsearch.space.space import BoolArray, FloatArray

WIDTH = 0.1
"""Standard deviation, in sparsity, of the first distribution around the start."""

COOLEST = 0.1
"""Temperature at the end, from 1."""

DECAYS = (0.9, 0.99)
"""Of Adam's two moments."""

HALVINGS = 50
SWEEPS = 4
"""Times that each price is found again while the others stay, where there are several bounds."""


@dataclass(frozen=True, slots=True)
class DifferentiableOptions(Options):
    """Options of `differentiable`.

    Attributes:
        steps: gradient steps.
        sequences: sequences of each.
        rate: Adam's step, in units of a logit.
        candidates: discretisations, of this many points of the training's second half, and as many draws from its
            end, that are compared.
        compared: sequences that they are compared on.
    """

    steps: int = 120
    sequences: int = 4
    rate: float = 0.3
    candidates: int = 4
    compared: int = 64

    def __post_init__(self) -> None:
        for option in ("steps", "sequences", "candidates", "compared"):
            positive_integer(option, getattr(self, option))
        number("rate", self.rate, 1e-6)


class Differentiable(Searcher):
    """Gradient descent on level probabilities; each step senses one allocation that is drawn from them.

    Every site u has logits `a[u, l]` over its levels and probabilities `p = softmax((a - sum_r price_r c_r) / T)`,
    the prices being the least ones, 0 or more, at which the expected cost meets each bound: the budget term. A step
    draws an allocation z by Gumbel noise, repairs it to the budget, and senses there. The derivative of the expected
    loss with respect to `p[u, l]` is, up to a constant a site, what moving u from z to l changes:
    `d[u, l] = g[u, l] + 0.5 mean (V[u, l])^2`, by gradient and Gauss-Newton feature. The logits follow its natural
    gradient, `d - sum_l p d`: the plain one has a factor p, and never finds levels that are unlikely at first. The
    step is that of Adam with one second moment for all logits, as one for each would make all sites equally
    sensitive. T falls from 1 to 0.1. In the end the likeliest allocation within the budget, by exact knapsack on
    `-log p`, of the last and of some earlier steps, and draws, are compared on the same sequences, with the start.

    Ideas: Gumbel-softmax (Jang et al., 2017), its use for widths in TAS (Dong and Yang, "Network Pruning via
    Transformable Architecture Search", 2019) and for sparsity in DASS (2023). Differences: the forward runs the
    drawn allocation instead of mixed weights, so that no step holds more than one set of weights; with mixed weights
    the derivative would be g alone, which takes levels far away for better than they are; the budget is met by
    prices and projection, not by a weighted penalty.

    Single draws and few sequences make it less sure than `quadratic`. Costs 5 forwards of `sequences` sequences a
    step, a backward counted as two.
    """

    name: ClassVar[str] = "differentiable"
    options_type: ClassVar[type[Options]] = DifferentiableOptions
    needs_sensitivities: ClassVar[bool] = True
    takes_start: ClassVar[bool] = True
    options: DifferentiableOptions

    @property
    def evaluations(self) -> int:
        """In forwards, a backward counted as two."""
        compared = min(self.options.compared, self.problem.sequences)
        return 5 * self.options.steps * self._count + (2 * self.options.candidates + 1) * compared

    @property
    def _count(self) -> int:
        return min(self.options.sequences, self.problem.sequences)

    def steps(self) -> Steps:
        """Training, then the comparison of what it led to."""
        space, limits, total = self.problem.space, self.problem.limits, self.options.steps
        start = self.problem.first()
        relaxed = Relaxed(space.valid, limits, centred(space.sparsities, space.valid, start))
        found: dict[Allocation, None] = {start: None}
        self.progress = Progress(0, total + 1, start)
        marks = {total - 1 - (total * part) // (2 * self.options.candidates) for part in range(self.options.candidates)}
        for step in range(total):
            temperature = COOLEST ** (step / max(total - 1, 1))
            drawn = repair(space, limits, relaxed.draw(temperature, self.rng), self.rng)
            sequences = draw_sequences(self.problem, self._count, self.rng)
            sensed = yield Sense(drawn, sequences, gradient=True, draws=1)
            changes = sensed.gradient.mean(axis=0) + 0.5 * (sensed.features**2).mean(axis=0)
            relaxed.descend(changes, temperature, self.options.rate)
            if step in marks:
                found[cheapest(space, limits, -relaxed.log_probabilities(temperature))] = None
            self.progress = Progress(step + 1, total + 1, start)
        for _ in range(self.options.candidates):
            found[repair(space, limits, relaxed.draw(COOLEST, self.rng), self.rng)] = None
        compared = draw_sequences(self.problem, self.options.compared, self.rng)
        means = (yield Evaluate(tuple(found), compared)).mean(axis=1)
        best = list(found)[int(np.argmin(np.where(np.isfinite(means), means, np.inf)))]
        self.progress = Progress(total + 1, total + 1, best)
        return best


def centred(sparsities: FloatArray, valid: BoolArray, start: Allocation) -> FloatArray:
    """Logits `[sites, max levels]` of a Gaussian in sparsity around `start`; 0 where invalid."""
    middle = np.take_along_axis(sparsities, start.array[:, None], axis=1)
    return np.where(valid, -0.5 * (np.nan_to_num(sparsities - middle) / WIDTH) ** 2, 0.0)


def centred_slopes(probabilities: FloatArray, changes: FloatArray) -> tuple[FloatArray, float]:
    """`changes` `[sites, levels]` less each site's expectation, and their expected square, a mean over sites.

    The first is the natural gradient of the expected change for the logits over their temperature: the gradient,
    `probabilities` times it, after the inverse of the softmax' Fisher information.
    """
    slopes = changes - (probabilities * changes).sum(axis=1, keepdims=True)
    return slopes, float((probabilities * slopes**2).sum(axis=1).mean())


@dataclass(eq=False)
class Relaxed:
    """Level probabilities of all sites whose expected cost meets the limits, and Adam's state.

    Attributes:
        logits: `[sites, max levels]`.
        prices: `[R]`, per cost relative to the bound.
    """

    valid: BoolArray
    limits: Limits
    logits: FloatArray
    prices: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.prices = np.zeros(len(self.limits.bounds))
        self._scale = np.maximum(np.abs(self.limits.bounds), 1e-300)
        self._mean, self._square = np.zeros(self.logits.shape), 0.0
        self._step = 0

    def log_probabilities(self, temperature: float) -> FloatArray:
        """`[sites, max levels]`, `-inf` where invalid; finds the prices anew."""
        self._find_prices(temperature)
        return np.asarray(log_softmax(self._scores(temperature), axis=1))

    def draw(self, temperature: float, rng: np.random.Generator) -> np.ndarray:
        """Level indices `[sites]` drawn by Gumbel noise."""
        noise = rng.gumbel(size=self.logits.shape)
        return np.asarray((self.log_probabilities(temperature) + noise).argmax(axis=1))

    def descend(self, changes: FloatArray, temperature: float, rate: float) -> None:
        """One step of Adam against `changes` `[sites, max levels]`, derivatives of the loss for probabilities."""
        p = softmax(self._scores(temperature), axis=1)
        slopes, variance = centred_slopes(p, np.where(self.valid, changes, 0.0))
        if not np.isfinite(variance):
            return  # a model that is pruned to death says nothing
        self._step += 1
        self._mean += (1 - DECAYS[0]) * (slopes - self._mean)
        self._square += (1 - DECAYS[1]) * (variance - self._square)
        size = np.sqrt(self._square / (1 - DECAYS[1] ** self._step))
        self.logits = self.logits - rate * self._mean / (1 - DECAYS[0] ** self._step) / max(size, 1e-300)

    def _scores(self, temperature: float) -> FloatArray:
        costs = np.tensordot(self.prices / self._scale, self.limits.costs, axes=1) * len(self.logits)
        return np.where(self.valid, (self.logits - np.where(self.valid, costs, 0.0)) / temperature, -np.inf)

    def _find_prices(self, temperature: float) -> None:
        """Each price by bisection, as low as its bound allows while the others stay."""
        for _ in range(SWEEPS if len(self.prices) > 1 else 1):
            for resource in range(len(self.prices)):
                self._find_price(resource, temperature)

    def _find_price(self, resource: int, temperature: float) -> None:
        low, high = 0.0, 1.0
        if self._met(resource, 0.0, temperature):
            return
        while not self._met(resource, high, temperature) and high < 1e9:
            high *= 2
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self._met(resource, middle, temperature) else (middle, high)
        self.prices[resource] = high

    def _met(self, resource: int, price: float, temperature: float) -> bool:
        self.prices[resource] = price
        p = softmax(self._scores(temperature), axis=1)
        costs = np.where(self.valid, self.limits.costs[resource], 0.0)
        return bool((p * costs).sum() <= self.limits.bounds[resource])
