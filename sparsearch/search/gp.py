"""GP: a Gaussian process over the coefficients of a low-dimensional basis."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sparsearch.search.bayesian import Bayesian

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class GP(Bayesian):
    """Bayesian optimisation of a few depth curves with Optuna's Gaussian process.

    Matérn 5/2 kernel with one length scale a coefficient, noise fitted, logarithmic expected improvement
    (Ament et al., "Unexpected Improvements to Expected Improvement for Bayesian Optimization", 2023). With
    `resources` one process for each of them and for the objective, and logarithmic expected hypervolume improvement
    (Daulton et al., "Differentiable Expected Hypervolume Improvement for Parallel Multi-Objective Bayesian
    Optimization", 2020), some 0.2 s a trial with three coefficients.
    """

    name: ClassVar[str] = "gp"

    def sampler(self, seed: int) -> BaseSampler:
        """It computes with one thread whatever torch is set to, so the trials do not depend on that."""
        from optuna.samplers import GPSampler

        return GPSampler(seed=seed)
