"""What each allocator makes of its statistic, against the paper's formula or a brute-force threshold."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from sparsearch.errors import ConfigError
from sparsearch.model.site import Site
from sparsearch.search import ALLOCATORS, SEARCHERS, Evaluate, Measure, Problem, check_searcher, make_searcher
from sparsearch.search.allocators.statistic import StatisticAllocator
from sparsearch.space import Budget, level_grid, linear_space
from sparsearch.space.statistics import STATISTICS
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import drive

BLOCKS = 6
SHAPE = (20, 40)
FINE = [step / 100 for step in range(1, 100)]
SPACE = linear_space(
    [Site(f"{b}.{k}", f"{b}.{k}", k, b, SHAPE) for b in range(BLOCKS) for k in ("a", "b")], level_grid(FINE), itemsize=2
)
DRAWN = np.random.default_rng(5).gamma(2.0, 1.0, BLOCKS)


def answered(name, answer, sparsity=0.6, **options):
    """Sparsities `[sites]` of the allocator `name` where the statistic is `answer`; steps between levels are 0.01."""
    problem = Problem(SPACE, Budget(sparsity=sparsity).limits(SPACE), 64, 128)
    searcher = make_searcher(name, options, problem, 0)
    request = searcher.ask()
    assert isinstance(request, Measure)
    searcher.tell(answer)
    assert searcher.ask() is None
    assert problem.limits.met(searcher.best)
    assert problem.space.sparsity(searcher.best) == pytest.approx(sparsity, abs=1e-9)
    return np.take_along_axis(SPACE.sparsities, searcher.best.array[:, None], axis=1)[:, 0]


def check(found, blocks):
    np.testing.assert_allclose(found, np.repeat(blocks, 2), atol=0.0101)


def unit(values):
    return (values - values.min()) / (values.max() - values.min())


def owl(importance, band, sparsity=0.6):
    keep = 2 * band * unit(importance)
    return 1 - (keep - keep.mean() + 1 - sparsity)


@pytest.mark.parametrize(
    ("name", "sign", "band"),
    [("owl", 1, 0.08), ("block_influence", 1, 0.08), ("lrp", 1, 0.08), ("dlp", -1, 0.15)],
)
def test_bands_are_those_of_owl(name, sign, band):
    check(answered(name, np.repeat(DRAWN, 2)), owl(sign * DRAWN, band))
    check(answered(name, np.repeat(DRAWN, 2), band=0.2), owl(sign * DRAWN, 0.2))


def test_dlp_importance_is_one_minus_the_share_of_the_sum():
    check(answered("dlp", np.repeat(DRAWN, 2)), owl(1 - DRAWN / DRAWN.sum(), 0.15))


def test_alpha_pruning_scales_a_band_around_the_target():
    wanted = 0.7 + 0.6 * unit(DRAWN)
    check(answered("alpha_pruning", np.repeat(DRAWN, 2)), 0.6 * wanted / wanted.mean())


def test_ecoflap_keeps_in_proportion_with_a_cap():
    scores = np.array([1.0, 1.1, 1.2, 1.0, 0.9, 0.8])
    check(answered("ecoflap", np.repeat(scores, 2)), 1 - 0.4 * scores / scores.mean())
    scores = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.01])
    check(answered("ecoflap", np.repeat(scores, 2)), [0.58] * 5 + [0.7])


def test_cfsp_keeps_in_proportion_to_a_sigmoid():
    angles = np.array([0.30, 0.10, 0.12, 0.08, 0.10, 0.15])
    importance = 1 / (1 + np.exp(-128 * 2048 / 1e4 * (angles - angles.mean())))
    density = 0.4 * importance / importance.mean()
    capped = np.minimum(1, density)
    for _ in range(50):  # what the cap takes goes to the others in proportion
        free = capped < 1
        capped[free] *= (0.4 * BLOCKS - (~free).sum()) / capped[free].sum()
        capped = np.minimum(1, capped)
    check(answered("cfsp", np.repeat(angles, 2)), 1 - capped)


def test_adapt_pruner_is_centred_and_within_its_amplitude():
    centred = DRAWN - DRAWN.mean()
    check(answered("adapt_pruner", np.repeat(DRAWN, 2), amplitude=0.2), 0.6 - 0.2 * centred / np.abs(centred).max())


def test_pq_index_scales_what_can_be_spared():
    retained = np.array([0.2, 0.3, 0.4, 0.5, 0.6, 0.3])
    check(answered("pq_index", np.repeat(retained, 2)), 0.6 * (1 - retained) / (1 - retained).mean())


@pytest.mark.parametrize(("name", "sign"), [("lim", 1), ("zd", -1)])
def test_rankings_have_two_tiers(name, sign):
    upper = np.argsort(-sign * DRAWN)[:3]
    wanted = np.full(BLOCKS, 0.7)
    wanted[upper] = 0.5
    check(answered(name, np.repeat(DRAWN, 2)), wanted)
    check(answered(name, np.ones(2 * BLOCKS)), np.full(BLOCKS, 0.6))


def removed_by_a_threshold(scores, sparsity):
    """Share of each site's scores below the one threshold that removes `sparsity` of all."""
    return (scores < np.quantile(scores, sparsity)).mean(axis=1)


@pytest.mark.parametrize("name", ["global_magnitude", "lamp", "flap", "taylor"])
def test_removal_costs_amount_to_a_threshold(name):
    """Scores of different spread a site; what is removed is what one threshold on all of them removes."""
    rng = np.random.default_rng(1)
    scores = np.sort(np.exp(rng.normal(size=(2 * BLOCKS, 1)) * 0.4 + rng.normal(size=(2 * BLOCKS, 800))), axis=1)
    counts = [[level.removed(SHAPE) for level in levels] for levels in SPACE.levels]
    costs = np.array([[row[:count].sum() for count in own] for row, own in zip(scores, counts, strict=True)])
    np.testing.assert_allclose(answered(name, costs), removed_by_a_threshold(scores, 0.6), atol=0.0151)


def test_the_floor_of_global_magnitude_gives_way_only_to_the_budget():
    costs = SPACE.sparsities * np.repeat([1e-6, 1, 1, 1, 1, 1], 2)[:, None]
    assert answered("global_magnitude", costs, floor=0.3).max() == pytest.approx(0.7)
    assert answered("global_magnitude", costs, floor=0.0).max() == pytest.approx(0.99)
    assert answered("global_magnitude", costs, floor=0.5).max() > 0.5


def allotted(name, space, sparsity, **options):
    problem = Problem(space, Budget(sparsity=sparsity).limits(space), 4, 128)
    searcher = make_searcher(name, options, problem, 0)
    assert searcher.ask() is None
    return np.take_along_axis(space.sparsities, searcher.best.array[:, None], axis=1)[:, 0]


def test_arithmetic_is_a_progression_over_depth():
    steps = np.linspace(-1, 1, BLOCKS)
    check(allotted("arithmetic", SPACE, 0.6), 0.6 + 0.3 * 0.4 * steps)
    check(allotted("arithmetic", SPACE, 0.3, steepness=-1), 0.3 - 0.3 * steps)
    check(allotted("arithmetic", SPACE, 0.6, steepness=0), np.full(BLOCKS, 0.6))


def test_erdos_renyi_cuts_at_dense_and_spreads_the_rest_evenly():
    sites = [Site(f"{i}", f"{i}", "s", i, shape) for i, shape in enumerate([(4, 100), (100, 100), (100, 100)])]
    space = linear_space(sites, level_grid(FINE), itemsize=2)
    found = allotted("erdos_renyi", space, 0.6)
    assert found[0] <= 0.01
    assert found[1:].mean() == pytest.approx((0.6 * 20400 - found[0] * 400) / 20000, abs=0.01)
    np.testing.assert_allclose(allotted("erdos_renyi", space, 0.95), allotted("erk", space, 0.95), atol=0.0201)


@pytest.mark.parametrize("name", [name for name in ALLOCATORS if issubclass(SEARCHERS[name], StatisticAllocator)])
def test_requests_name_few_sequences_evenly_over_the_panel(name):
    problem = quadratic_problem(sequences=100).problem
    request = make_searcher(name, {}, problem, 0).ask()
    if STATISTICS[request.statistic].passes(problem.space):
        gaps = np.diff(request.sequences)
        assert len(request.sequences) == 16
        assert set(gaps) <= {6, 7}
        assert make_searcher(name, {"sequences": 7}, problem, 0).ask().sequences != request.sequences
    assert request.parameters == tuple(sorted(request.parameters))


BAD = {
    "sequences": 0, "band": -0.1, "multiple": "many", "tail": 0, "eps": 0, "above": 2, "steepness": float("nan"),
    "amplitude": True, "floor": 1.5, "share": -1, "gap": None, "threshold": -1, "p": 3.0, "q": 0.1, "eta": -1,
    "most": 2,
}  # fmt: skip


@pytest.mark.parametrize("name", [*ALLOCATORS, "best_allocator"])
def test_bad_options_are_refused_by_name(name):
    for field in dataclasses.fields(SEARCHERS[name].options_type):
        with pytest.raises(ConfigError, match=rf"searcher\.[\w:. ]*{field.name}.* not allowed"):
            check_searcher(name, {field.name: BAD[field.name]})


def test_the_best_allocator_is_the_one_whose_allocation_evaluates_best():
    synthetic = quadratic_problem(noise=0.3)
    run = drive(make_searcher("best_allocator", {"sequences": 5}, synthetic.problem, 0), synthetic)
    (evaluation,) = (request for request in run.requests if isinstance(request, Evaluate))
    assert len(evaluation.sequences) == 5
    assert run.requests[-1] is evaluation
    means = run.answers[-1].mean(axis=1)
    assert run.best == evaluation.allocations[int(means.argmin())]
    alone = set()
    for name in ALLOCATORS:
        if name != "fisher":
            alone.add(drive(make_searcher(name, {}, synthetic.problem, 0), synthetic).best)
    assert alone <= set(evaluation.allocations)


def test_the_best_allocator_does_without_errors_where_there_are_none():
    synthetic = quadratic_problem(blocks=1)
    bare = dataclasses.replace(synthetic.problem, errors=None)
    run = drive(make_searcher("best_allocator", {}, bare, 0), SimpleNamespace(answer=synthetic.answer))
    assert bare.limits.met(run.best)
