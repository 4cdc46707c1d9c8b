"""Predicts the objective of allocations from those that were evaluated: site effects and pairs, with uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from sparsearch.search.base import Problem
from sparsearch.search.basis import depth_basis
from sparsearch.search.ridge import combined, fitted_scales
from sparsearch.search.spdy import prior_costs
from sparsearch.search.surrogate import Prediction
from sparsearch.space.repair import uniform
from sparsearch.space.space import FloatArray, IntArray, SearchSpace

CURVES = 3
"""Polynomials over the depth for each kind of site."""

DEGREES = (1, 1, 2)
"""Of the kernel of each group of features: `smooth`, `own`, `pairs`."""

OFFSET = 100.0
"""Prior variance of the level of all targets, which are scaled to a variance of 1."""


LEAST = 1e-6
"""Least prior variance: where nothing is noisy or all targets are equal, the covariance can still be inverted."""


@dataclass(frozen=True, eq=False)
class Features:
    """What the predictor sees of an allocation, in three groups that share one prior variance each.

    A level of a site has two values: c, what it costs by the prior, and c^2, both less those of the uniform
    allocation and scaled alike. So the effect of a site is a curve of two coefficients. The groups are

    - `smooth`: coefficients that are polynomials over the depth for each kind of site;
    - `own`: what each site has beyond that;
    - `pairs`: all products of two sums of c, over the sites of a block or of a kind.

    Attributes:
        tables: the two values `[2, sites, max levels]`; 0 where invalid.
        curves: `[sites, kinds * CURVES]`.
        members: `[sites, blocks + kinds]`, 1 where a site belongs to a block or kind.
    """

    tables: FloatArray
    curves: FloatArray
    members: FloatArray

    @classmethod
    def of(cls, problem: Problem) -> Features:
        """For `problem`: c is the layer's output error where the supernet has one, else that of SPDY's prior."""
        space = problem.space
        errors = problem.errors
        costs = prior_costs(space, "kept") if errors is None else np.maximum(np.nan_to_num(errors), 0.0)
        tables = np.stack([costs, costs**2])
        reference = uniform(space, problem.limits).array
        tables = tables - tables[:, np.arange(len(space)), reference][:, :, None]
        units = tables[:, space.valid].std(axis=1)[:, None, None]
        return cls(
            np.where(space.valid, tables / np.where(units > 0, units, 1.0), 0.0),
            depth_basis(space, CURVES).columns,
            _members(space),
        )

    def groups(self, levels: IntArray) -> tuple[FloatArray, ...]:
        """Features of `levels` `[n, sites]`, an array `[n, features]` for each group."""
        values = self.tables[:, np.arange(levels.shape[1]), levels]
        own = np.concatenate(list(values), axis=1)
        smooth = np.concatenate(list(values @ self.curves), axis=1)
        return smooth, own, values[0] @ self.members


@dataclass(frozen=True, eq=False)
class Predictor:
    """Bayesian ridge regression of targets on `Features`: a Gaussian posterior over differences of allocations.

    Weights within a group are independent and Gaussian with one variance, so the prior is a kernel,

        k(z, z') = sum_g variance_g * <phi_g(z), phi_g(z')>^degree_g,

    whose second-degree group stands for all products of two of its features: pairs, of low rank. Targets of one
    batch share an offset, as they were evaluated on the same sequences. The variances, the offsets' and the
    noise's among them, are those that predict left-out targets best (`ridge.fitted_scales`). Features with a
    variance for kinds over the depth and one for single sites let hundreds of sites borrow from each other what
    few evaluations tell: a hierarchical prior.

    A fit of n targets inverts `[n, n]` some dozen times: about 0.5 s for 256, less from an earlier fit.

    Attributes:
        scales: prior variances of the groups, of the batches' offsets and of the noise, in that order.
        unit: standard deviation of the targets, by which they were divided.
        inflation: factor on all standard errors, 1 where the model is believed.
    """

    features: Features
    scales: FloatArray
    unit: float
    _norms: FloatArray
    _train: tuple[FloatArray, ...]
    _covariance: FloatArray
    _factor: FloatArray
    _dual: FloatArray
    inflation: float = 1.0

    @classmethod
    def fit(
        cls, features: Features, levels: IntArray, targets: FloatArray, batches: IntArray, start: FloatArray | None
    ) -> Predictor:
        """The posterior given `targets` `[n]` of `levels` `[n, sites]`.

        Args:
            features: of the search space.
            levels: evaluated allocations; one may stand in several batches.
            targets: their values.
            batches: `[n]`, equal numbers for those that were evaluated on the same sequences.
            start: `scales` of an earlier fit.
        """
        train = features.groups(levels)
        raw = [_power(block, block, degree) for block, degree in zip(train, DEGREES, strict=True)]
        norms = np.array([float(np.diag(kernel).mean()) or 1.0 for kernel in raw])
        together = (batches[:, None] == batches[None, :]).astype(np.float64)
        kernels = [*(kernel / norm for kernel, norm in zip(raw, norms, strict=True)), together]
        unit = float(targets.std()) or 1.0
        scaled = (targets - targets.mean()) / unit
        scales = fitted_scales(kernels, scaled, np.ones(len(kernels) + 1) if start is None else start)
        scales = np.maximum(scales, LEAST)
        covariance = combined(kernels, scales) + OFFSET
        factor = cholesky(covariance, lower=True)
        return cls(features, scales, unit, norms, train, covariance, factor, cho_solve((factor, True), scaled))

    def contrast(self, levels: IntArray, base: IntArray) -> Prediction:
        """By how much `levels` `[n, sites]` differ from `base` `[sites]`, with the standard error, each `[n]`."""
        mine, its = self.features.groups(levels), self.features.groups(base[None])
        covariance, prior = np.zeros((len(levels), len(self._dual))), np.zeros(len(levels))
        for group, (share, degree) in enumerate(zip(self._shares, DEGREES, strict=True)):
            train = self._train[group]
            covariance += share * (_power(mine[group], train, degree) - _power(its[group], train, degree))
            lengths = np.square(mine[group]).sum(axis=1) ** degree + np.square(its[group]).sum() ** degree
            prior += share * (lengths - 2 * _power(mine[group], its[group], degree)[:, 0])
        explained = np.square(solve_triangular(self._factor, covariance.T, lower=True)).sum(axis=0)
        error = np.sqrt(np.maximum(prior - explained, 0.0))
        return Prediction(self.unit * (covariance @ self._dual), self.inflation * self.unit * error)

    def moves(self, space: SearchSpace, base: IntArray) -> Prediction:
        """What each level of each site changes at `base` `[sites]`, each `[sites, max levels]`; 0 where invalid."""
        sites, levels = np.nonzero(space.valid)
        moved = np.tile(base, (len(sites), 1))
        moved[np.arange(len(sites)), sites] = levels
        found = self.contrast(moved, base)
        tables = np.zeros((2, *space.valid.shape))
        tables[:, sites, levels] = found.mean, found.error
        return Prediction(tables[0], tables[1])

    def deviation(self, rng: np.random.Generator) -> FloatArray:
        """A draw from the posterior of the site effects, less its mean: `[sites, max levels]`.

        By Matheron's rule: a draw from the prior, less what the same draw of the targets would have made of it.
        """
        linear = [group for group, degree in enumerate(DEGREES) if degree == 1]
        weights = [np.sqrt(self._shares[group]) * rng.normal(size=self._train[group].shape[1]) for group in linear]
        targets = self._others @ rng.normal(size=len(self._dual))
        targets += sum(self._train[group] @ drawn for group, drawn in zip(linear, weights, strict=True))
        dual = cho_solve((self._factor, True), targets)
        smooth, own = (
            drawn - self._shares[group] * (dual @ self._train[group])
            for group, drawn in zip(linear, weights, strict=True)
        )
        count = self.features.tables.shape[0]
        per_site = np.array(np.split(smooth, count)) @ self.features.curves.T + np.array(np.split(own, count))
        return self.unit * np.einsum("ku,kul->ul", per_site, self.features.tables)

    @property
    def noise(self) -> float:
        """Standard deviation of the targets' noise."""
        return self.unit * float(np.sqrt(self.scales[-1]))

    @property
    def _shares(self) -> FloatArray:
        """Prior variances of the weights of each group, as they are in `Features`."""
        return self.scales[: len(DEGREES)] / self._norms

    @cached_property
    def _others(self) -> FloatArray:
        """Cholesky factor of the covariance of all that is no effect of a single site."""
        linear = zip(self._shares, self._train, DEGREES, strict=True)
        effects = sum(share * _power(train, train, 1) for share, train, degree in linear if degree == 1)
        return cholesky(self._covariance - effects, lower=True)


def _power(left: FloatArray, right: FloatArray, degree: int) -> FloatArray:
    """Inner products of all rows to the power `degree`, as of all products of that many features."""
    return (left @ right.T) ** degree


def _members(space: SearchSpace) -> FloatArray:
    """`[sites, blocks + kinds]`: 1 where a site is in a block, or of a kind."""
    labels: Sequence[Sequence[object]] = ([site.block for site in space.sites], [site.kind for site in space.sites])
    tables = [[[label == value for value in dict.fromkeys(row)] for label in row] for row in labels]
    return np.concatenate([np.array(table, dtype=np.float64) for table in tables], axis=1)
