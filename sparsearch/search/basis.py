"""A low-dimensional basis for numbers that hundreds of sites have: per site kind a smooth curve over the depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Limits
from sparsearch.space.repair import around_uniform, cheapest
from sparsearch.space.space import FloatArray, SearchSpace


@dataclass(frozen=True, eq=False)
class Basis:
    """Columns whose combinations are the numbers that a few coefficients can give to all sites.

    Attributes:
        columns: `[sites, dimensions]`; the columns of one kind are orthogonal, with a root mean square of 1 over
            the sites of that kind, and 0 elsewhere.
        names: `[dimensions]`, `KIND:DEGREE`.
        degrees: `[dimensions]`: 0 is the shift of a whole kind, 1 its slope over the depth, 2 its bend, ...
    """

    columns: FloatArray
    names: tuple[str, ...]
    degrees: tuple[int, ...]


def depth_basis(space: SearchSpace, coefficients: int) -> Basis:
    """For each kind of site the first `coefficients` orthogonal polynomials over the depth of its sites.

    The polynomials are orthogonal on the blocks in which the kind occurs (Gram's polynomials where that is every
    block), so a kind that occurs at n depths gets n coefficients at most, and an LM head only its shift. Kinds
    that differ in a number alone (experts) share their curves. Sites with one level have nothing to choose and
    get no coefficient.
    """
    members: dict[str, list[int]] = {}
    for index, site in enumerate(space.sites):
        if space.counts[index] > 1:
            members.setdefault(_unnumbered(site.kind), []).append(index)
    columns, names = [np.zeros((len(space), 0))], list[str]()
    degrees = list[int]()
    for kind, sites in members.items():
        curves = orthogonal_polynomials([space.sites[index].block for index in sites], coefficients)
        column = np.zeros((len(space), curves.shape[1]))
        column[sites] = curves
        columns.append(column)
        names += [f"{kind}:{degree}" for degree in range(curves.shape[1])]
        degrees += range(curves.shape[1])
    return Basis(np.concatenate(columns, axis=1), tuple(names), tuple(degrees))


def orthogonal_polynomials(positions: list[int], count: int) -> FloatArray:
    """Polynomials of degree 0 to `count - 1`, orthogonal over `positions`, `[positions, at most count]`.

    Each has a root mean square of 1 and a positive leading coefficient. There are no more than distinct positions.
    """
    distinct = len(set(positions))
    depth = np.asarray(positions, dtype=np.float64)
    depth = (depth - depth.mean()) / max(np.ptp(depth), 1.0)
    powers = np.vander(depth, min(count, distinct), increasing=True)
    curves, triangle = np.linalg.qr(powers)
    return curves * np.sign(np.diag(triangle)) * np.sqrt(len(positions))


def curve_allocation(space: SearchSpace, limits: Limits, basis: Basis, coefficients: FloatArray) -> Allocation:
    """Sparsities that lie off the uniform one by the curves with `coefficients`, projected onto the budget.

    All sparsities are shifted alike until the budget is met and tight, then projected exactly. Coefficients of 0
    give the uniform allocation.

    Args:
        coefficients: `[dimensions]`, in sparsity: 0.1 lets a kind's sites lie 0.1 off, as a root mean square.
    """
    return around_uniform(space, limits, basis.columns @ coefficients)


def scaled_allocation(
    space: SearchSpace, limits: Limits, basis: Basis, costs: FloatArray, coefficients: FloatArray
) -> Allocation:
    """The least sum of `costs`, each site's scaled by the exponential of the curves with `coefficients`.

    Frantar & Alistarh, "SPDY: Accurate Pruning with Speedup Guarantees" (2022), search one factor per layer in
    [0, 1] and solve a bucketed dynamic programme; here the factors are smooth in the depth, positive without a
    bound, and the knapsack is exact. Coefficients of 0 give the optimum of the additive model itself.

    Args:
        costs: `[sites, max levels]`, what each level alone costs.
        coefficients: `[dimensions]`, natural logarithms of factors.
    """
    return cheapest(space, limits, costs * np.exp(basis.columns @ coefficients)[:, None])


def _unnumbered(kind: str) -> str:
    """`kind` without numbers in its path: `mlp.experts.7.up_proj` and its siblings are one."""
    return ".".join("*" if part.isdigit() else part for part in kind.split("."))
