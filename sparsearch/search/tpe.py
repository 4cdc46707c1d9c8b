"""TPE: a tree-structured Parzen estimator over the coefficients of a low-dimensional basis."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sparsearch.search.bayesian import Bayesian

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class TPE(Bayesian):
    """Bayesian optimisation of a few depth curves with Optuna's multivariate tree-structured Parzen estimator.

    Bergstra et al., "Algorithms for Hyper-Parameter Optimization" (2011); multivariate as in Falkner et al.,
    "BOHB" (2018). With `resources` good trials are those of the first fronts, weighted by the hypervolume that they
    add (Ozaki et al., "Multiobjective Tree-Structured Parzen Estimator", 2022). Cheap: milliseconds a trial.
    """

    name: ClassVar[str] = "tpe"

    def sampler(self, seed: int) -> BaseSampler:
        """Multivariate, with pending trials counted as bad ones."""
        from optuna.samplers import TPESampler

        return TPESampler(multivariate=True, constant_liar=True, seed=seed)
