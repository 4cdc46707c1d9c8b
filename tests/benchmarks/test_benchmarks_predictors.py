"""The proxies of the correlation sheet: signs are the allocators' own, forms are the written-out ones."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from predictors import LESS, Sheet, TraceTogether, joint, requests

from sparsearch.evaluation.objectives.trace import GradientTrace
from sparsearch.search import make_searcher
from sparsearch.space.sensitivities import Sensitivities
from sparsearch.space.statistics import STATISTICS
from sparsearch.testing import quadratic_problem

PROBLEM = quadratic_problem().problem
BY_SITE = [
    (request.statistic, name)
    for request, names in requests(PROBLEM).items()
    if not STATISTICS[request.statistic].per_level
    for name in names
]


def test_every_statistic_is_on_the_sheet():
    assert {request.statistic for request in requests(PROBLEM)} == set(STATISTICS)


@pytest.mark.parametrize(("statistic", "allocator"), BY_SITE)
def test_more_of_what_matters_is_less_sparse_and_of_the_others_sparser(statistic, allocator):
    space = PROBLEM.space
    blocks = np.array([site.block for site in space.sites], dtype=np.float64)
    wide = {"amplitude": 0.3} if allocator == "adapt_pruner" else {}  # its default is finer than the levels
    steps = make_searcher(allocator, wide, PROBLEM, 0).steps()
    next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send(0.1 + 0.8 * blocks / blocks.max())
    sparsities = space.sparsities[np.arange(len(space)), end.value.value.array]
    assert np.corrcoef(blocks, sparsities)[0, 1] * (1 if statistic in LESS else -1) > 0.1


def test_the_joint_form_is_the_sum_over_all_pairs_of_sites():
    rng = np.random.default_rng(0)
    space = PROBLEM.space
    gradient, features = rng.normal(size=(2, 5, *space.valid.shape))
    levels = rng.integers(space.counts, size=(3, len(space)))
    sheet = Sheet(levels, SimpleNamespace(), PROBLEM, {}, (), ())
    found = joint(sheet, Sensitivities(gradient, features))
    for row, value in zip(levels, found, strict=True):
        expected = sum(gradient[:, site, level].mean() for site, level in enumerate(row))
        for first, one in enumerate(row):
            for second, other in enumerate(row):
                expected += 0.5 * (features[:, first, one] * features[:, second, other]).mean()
        assert value == pytest.approx(expected)


def test_the_published_form_correlates_the_mean_gradient():
    student, dense = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 4, 3, 9)))
    kept = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    rho = [np.corrcoef(student.mean(dim=0)[site], dense.mean(dim=0)[site])[0, 1] for site in range(3)]
    expected = 1 - np.dot(rho, [1, 2, 5]) / 8
    assert TraceTogether().compare(student, dense, kept).tolist() == pytest.approx([expected] * 4)
    alone = GradientTrace().compare(student[:1], dense[:1], kept)
    assert TraceTogether().compare(student[:1], dense[:1], kept).tolist() == pytest.approx(alone.tolist())
