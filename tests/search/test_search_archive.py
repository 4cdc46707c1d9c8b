import numpy as np
import pytest

from sparsearch.search.archive import STAGES, Archive, final_forwards, perturbed, settled, squeezed
from sparsearch.space.repair import repair, uniform
from sparsearch.testing import quadratic_problem


def answered(steps, synthetic):
    """The requests of a generator and what it returns."""
    requests = []
    try:
        request = next(steps)
        while True:
            requests.append(request)
            request = steps.send(synthetic.values(request.allocations, request.sequences))
    except StopIteration as end:
        return requests, end.value


def random_allocations(synthetic, count):
    rng = np.random.default_rng(0)
    space, limits = synthetic.problem.space, synthetic.problem.limits
    return [repair(space, limits, rng.integers(0, space.counts), rng) for _ in range(count)]


def test_a_design_lies_in_opposite_pairs_around_its_center_with_its_spread():
    problem = quadratic_problem(blocks=6).problem
    center = uniform(problem.space, problem.limits)
    now = problem.space.sparsities[np.arange(len(problem.space)), center.array]
    offsets = np.array(perturbed(problem, center, 0.1, 256, np.random.default_rng(0))) - now
    np.testing.assert_allclose(offsets[::2], -offsets[1::2], atol=1e-12)
    assert offsets.std() == pytest.approx(0.1, rel=0.05)
    kinds = np.array([site.kind for site in problem.space.sites])
    same = offsets[:, kinds == kinds[0]]
    # Half of the variance is shared over the depth.
    assert np.corrcoef(same[::2].T)[0, 1] > 0.2
    assert len(perturbed(problem, center, 0.1, 5, np.random.default_rng(0))) == 5


def test_objectives_are_squeezed_and_ruined_models_are_the_worst():
    found = squeezed(np.array([2.0, 4.0, np.nan, -2.0, np.inf, 200.0]))
    assert found[0] == pytest.approx(np.arcsinh(1)) and found[3] == -found[0]
    assert found[2] == found[4] == found[5] == found.max()
    assert np.isfinite(squeezed(np.array([np.nan, np.inf]))).all()
    assert squeezed(np.zeros(2)).tolist() == [0, 0]


def test_the_final_comparison_takes_the_best_on_the_sequences_that_it_announces():
    synthetic = quadratic_problem(blocks=2, sequences=100, noise=0.2)
    candidates = random_allocations(synthetic, 6)
    requests, best = answered(settled(synthetic.problem, candidates, np.random.default_rng(0)), synthetic)
    assert [len(request.allocations) for request in requests] == [6, STAGES[1][0]]
    assert not set(requests[0].sequences) & set(requests[1].sequences)
    assert sum(request.forwards for request in requests) == final_forwards(synthetic.problem, 6)
    assert best == min(candidates, key=synthetic.mean)


def test_a_small_panel_shortens_the_comparison_and_a_lone_candidate_needs_none():
    synthetic = quadratic_problem(blocks=1, sequences=5)
    candidates = random_allocations(synthetic, 4)
    requests, _ = answered(settled(synthetic.problem, candidates, np.random.default_rng(0)), synthetic)
    assert [len(request.sequences) for request in requests] == [5]
    requests, best = answered(settled(synthetic.problem, candidates[:1], np.random.default_rng(0)), synthetic)
    assert not requests and best == candidates[0]


def test_an_archive_ranks_new_allocations_of_an_additive_objective_as_they_are():
    synthetic = quadratic_problem(blocks=1, noise=0.1)
    archive = Archive(synthetic.problem, 4, np.random.default_rng(0))
    every = random_allocations(synthetic, 100)
    for begin in range(0, 80, 20):
        batch = [every[0], *every[begin : begin + 20]]
        requests, _ = answered(archive.evaluate(batch), synthetic)
        assert len(requests[0].sequences) == 4
    assert archive.evaluated == 83 and len(archive.known) == 80
    ranking = archive.ranked(archive.fit(), every[80:])
    true = np.array([synthetic.mean(allocation) for allocation in ranking])
    assert np.corrcoef(np.arange(20), true.argsort().argsort())[0, 1] > 0.9
