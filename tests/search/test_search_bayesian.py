import dataclasses
import subprocess
import sys

import numpy as np
import optuna
import pytest

from sparsearch.errors import ConfigError
from sparsearch.search import Evaluate, Sense, check_searcher, coefficients, make_searcher
from sparsearch.search.surrogate import fisher_costs
from sparsearch.space.repair import cheapest, uniform
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import PROBLEMS, drive

both = pytest.mark.parametrize("name", ["tpe", "gp"])


def smooth_problem(seed=0, blocks=8, noise=0.0):
    """Sensitivities that differ between kinds and change smoothly over the depth, as those of real models do."""
    synthetic = quadratic_problem(blocks=blocks, levels=[step / 20 for step in range(1, 20)], seed=seed, noise=noise)
    space = synthetic.problem.space
    rng = np.random.default_rng(seed)
    kinds = {kind: rng.normal(size=2) for kind in dict.fromkeys(site.kind for site in space.sites)}
    depth = [2 * site.block / (blocks - 1) - 1 for site in space.sites]
    logs = np.array([kinds[site.kind] @ (1.0, t) for site, t in zip(space.sites, depth, strict=True)])
    sizes = np.array([site.size for site in space.sites])
    errors = np.sqrt(np.exp(logs) * sizes / sizes.sum())[:, None] * np.nan_to_num(space.sparsities) ** 1.5
    return dataclasses.replace(synthetic, errors=errors)


def search(name, synthetic, seed=0, **options):
    searcher = make_searcher(name, {"trials": 20, "sequences": 4} | options, synthetic.problem, seed)
    return searcher, drive(searcher, synthetic)


def evaluated(run):
    """Every allocation in the order of evaluation, and its mean."""
    found = {}
    for request, answer in zip(run.requests, run.answers, strict=True):
        if isinstance(request, Evaluate):
            found |= zip(request.allocations, answer.mean(axis=1), strict=True)
    return found


def left(synthetic, best):
    """How much of the way from uniform to the optimum is left."""
    start = synthetic.mean(uniform(synthetic.problem.space, synthetic.problem.limits))
    optimum = synthetic.mean(synthetic.additive_optimum())
    return (synthetic.mean(best) - optimum) / (start - optimum)


@pytest.mark.parametrize(("name", "trials", "batch"), [("tpe", 60, 2), ("gp", 20, 5)])
def test_far_nearer_to_the_optimum_than_random_search_at_equal_evaluations(name, trials, batch):
    found, drawn = [], []
    for seed in range(3):
        synthetic = smooth_problem(seed)
        _, run = search(name, synthetic, seed, trials=trials, batch=batch, basis="curve", coefficients=2)
        found.append(left(synthetic, run.best))
        plain = make_searcher("random", {"evaluations": trials + 1, "sequences": 4}, synthetic.problem, seed)
        drawn.append(left(synthetic, drive(plain, synthetic).best))
    assert np.median(found) < 0.6 * np.median(drawn)
    assert max(found) < min(drawn)


def test_factors_on_fisher_costs_mend_what_the_costs_have_wrong():
    """Costs of a model whose attention counts four times as much as the dense point says."""
    dense_point = smooth_problem()
    attention = np.array(["attn" in site.kind for site in dense_point.problem.space.sites])
    truth = dataclasses.replace(dense_point, errors=dense_point.errors * np.where(attention, 2.0, 1.0)[:, None])
    searcher = make_searcher("tpe", {"trials": 50, "sequences": 16, "coefficients": 1}, truth.problem, 0)
    sensed = dense_point.answer(searcher.ask())
    plain = cheapest(truth.problem.space, truth.problem.limits, fisher_costs(sensed))
    searcher.tell(sensed)
    assert left(truth, drive(searcher, truth).best) < 0.7 * left(truth, plain)


def test_curves_begin_with_uniform_and_factors_with_the_fisher_optimum_beside_it():
    synthetic = quadratic_problem()
    space, limits = synthetic.problem.space, synthetic.problem.limits
    start = uniform(space, limits)
    _, curves = search("tpe", synthetic, basis="curve")
    assert curves.requests[0].allocations == (start,)
    _, factors = search("tpe", synthetic, basis="fisher")
    sensed, first = factors.requests[:2]
    assert isinstance(sensed, Sense) and sensed.allocation == space.dense() and not sensed.gradient
    assert first.allocations == (start, cheapest(space, limits, fisher_costs(factors.answers[0])))


@both
@pytest.mark.parametrize("batch", [1, 5])
def test_every_allocation_is_evaluated_once_on_the_same_sequences_and_the_best_mean_wins(name, batch):
    synthetic = quadratic_problem(noise=0.5)
    searcher, run = search(name, synthetic, trials=14, batch=batch, basis="curve", coefficients=1, polish=6)
    asked = [allocation for request in run.requests for allocation in request.allocations]
    assert len(asked) == len(set(asked))
    assert {request.sequences for request in run.requests} == {run.requests[0].sequences}
    assert len(run.requests[0].sequences) == 4
    assert sum(request.forwards for request in run.requests) <= searcher.evaluations == (1 + 14 + 6) * 4
    means = evaluated(run)
    assert run.best == min(means, key=means.get)
    assert run.progress[-1].done == run.progress[-1].total == 20


def test_the_end_when_the_basis_holds_nothing_new():
    synthetic = PROBLEMS["one_site"]()
    _, run = search("tpe", synthetic, trials=10_000, basis="curve")
    assert len(run.requests) == 1
    assert run.progress[-1].done <= coefficients.PATIENCE + 1


def test_the_polish_moves_single_sites_and_only_improves():
    synthetic = quadratic_problem(blocks=3)
    _, without = search("tpe", synthetic, basis="curve", coefficients=1)
    _, run = search("tpe", synthetic, basis="curve", coefficients=1, polish=200, batch=8)
    assert synthetic.mean(run.best) < 0.9 * synthetic.mean(without.best)
    means = [synthetic.mean(progress.incumbent) for progress in run.progress if progress.incumbent]
    assert means == sorted(means, reverse=True)


@both
def test_other_processes_thread_counts_and_hash_seeds_change_nothing(name):
    """What resume rests on: Optuna's samplers answer equal values with equal trials."""
    script = f"""
from sparsearch.search import make_searcher
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import drive
synthetic = quadratic_problem(noise=0.3)
options = {{"trials": 16, "sequences": 4, "basis": "curve", "coefficients": 1, "batch": 2}}
run = drive(make_searcher("{name}", options, synthetic.problem, 5), synthetic)
print([request.allocations for request in run.requests])
"""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={"OMP_NUM_THREADS": threads, "PYTHONHASHSEED": threads, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        for threads in ("1", "2")
    ]
    assert outputs[0].stdout == outputs[1].stdout
    assert [output.stderr for output in outputs] == ["", ""], "Optuna talks"


def test_naming_the_searchers_loads_neither_optuna_nor_torch():
    script = "import sys, sparsearch.search; print([name for name in ('optuna', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_optuna_s_verbosity_is_the_user_s(capfd):
    before = optuna.logging.get_verbosity()
    search("tpe", quadratic_problem(), trials=3)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


@both
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_ruined_models_are_failed_trials_and_large_values_do_not_count_for_more(name, value):
    synthetic = quadratic_problem(blocks=2)
    searcher = make_searcher(
        name, {"trials": 16, "sequences": 2, "basis": "curve", "coefficients": 1}, synthetic.problem, 0
    )
    means = {}
    while (request := searcher.ask()) is not None:
        values = synthetic.values(request.allocations, request.sequences)
        values[values > np.median(values)] *= 1e9
        values[::5] = value
        means |= zip(request.allocations, np.where(np.isfinite(values), values, np.inf).mean(axis=1), strict=True)
        searcher.tell(values)
    assert searcher.best == min(means, key=means.get)


@both
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, r"searcher\.trials: 0 is not allowed; give a positive integer"),
        ({"sequences": None}, r"searcher\.sequences: None is not allowed"),
        ({"coefficients": 1.5}, r"searcher\.coefficients: 1\.5 is not allowed"),
        ({"batch": -1}, r"searcher\.batch: -1 is not allowed"),
        ({"polish": -1}, r"searcher\.polish: -1 is not allowed; give 0 or a positive integer"),
        ({"polish": False}, r"searcher\.polish: False is not allowed"),
        ({"basis": "curves"}, r"searcher\.basis: 'curves' is no basis; allowed: curve, fisher \(did you mean 'curve'"),
        ({"basis": []}, r"searcher\.basis: \[\] is no basis"),
        ({"span": 0}, r"searcher\.span: 0 is not allowed; give a positive number"),
        ({"span": float("nan")}, r"searcher\.span: nan is not allowed"),
        ({"span": "wide"}, r"searcher\.span: 'wide' is not allowed"),
        ({"trails": 5}, r"searcher\.trails: (tpe|gp) has no such option; .*did you mean 'trials'"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(ConfigError, match=message):
        check_searcher(name, options)
