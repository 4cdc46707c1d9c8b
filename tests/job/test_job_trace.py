"""Jobs with the gradient-trace objective: who may search by it, what it is charged, and that resume changes nothing."""

import json

import pytest
import tiny_jobs
import yaml

from sparsearch.cli.main import run
from sparsearch.errors import ConfigError, Stopped
from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.job.config import load_config, parse_config
from sparsearch.job.job import Job
from sparsearch.job.journal import Journal
from sparsearch.job.loop import JournaledEvaluations, SearchLoop
from sparsearch.job.prepare import check_names, prepare
from sparsearch.search import ALLOCATORS, SEARCHERS, check_searcher
from sparsearch.supernet import Switcher, build_supernet

TRACE = {"objective": "trace", "panel": tiny_jobs.PANEL}
TRACENAS = {"name": "tracenas", "generations": 3, "population": 4, "elite": 2, "tokens": 93}
LENGTH = 31


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_llama_folder):
    """The folder of a job that has run to its end."""
    folder = tmp_path_factory.mktemp("trace")
    job = tiny_jobs.write_job(folder, tiny_llama_folder, objective=TRACE, searcher=TRACENAS)
    assert run(["search", str(job), "--quiet"]) == 0
    return folder


def test_a_whole_job_reports_it_beside_perplexity_and_leaves_out_who_needs_sensitivities(finished):
    with Journal.read(finished / "runs" / "job" / "journal.sqlite") as journal:
        comparison = journal.fact("comparison")
        rows = {row["name"]: row for row in comparison["rows"]}
    assert comparison["objective"] == {"name": "gradient-trace distance", "unit": ""}
    assert "owl" in rows and "fisher" not in rows
    assert abs(rows["dense"]["objective"]["mean"]) < 1e-5
    assert 0 < rows["searched: tracenas"]["objective"]["mean"] < 2
    assert rows["uniform"]["perplexity"]["mean"] > 1


def test_a_backward_is_charged_as_two_forwards_in_plan_journal_and_curve(finished):
    plan = Job.load(finished / "job.yaml").plan()
    asked = 3 * 4 * 3 * LENGTH
    assert plan.search_tokens == 3 * asked
    with Journal.read(finished / "runs" / "job" / "journal.sqlite") as journal:
        cost = journal.fact("search_cost")
        usage = journal.fact("usage")
    assert cost["forward_tokens"] == 3 * asked
    profile = json.loads((finished / "runs" / "job" / "profiles" / "best.json").read_text())
    assert profile["figures"]["evaluated_tokens"] == 3 * asked
    # Besides, the dense model's traces of the panel and one measurement.
    assert usage["backward tokens"] == asked + 12 * LENGTH + LENGTH


class Interrupted:
    """One prepared job; every call works like a fresh process that is stopped after so many evaluations."""

    def __init__(self, folder, checkpoint, searcher):
        mapping = tiny_jobs.mapping(folder, checkpoint, objective=TRACE, searcher=searcher)
        self.prepared = prepare(parse_config(mapping))
        self.supernet = build_supernet(self.prepared.model, self.prepared.build_plan, folder / "supernet")

    def search(self, journal, most=None):
        prepared = self.prepared
        switcher = Switcher(prepared.model, self.supernet)
        evaluator = Evaluator(prepared.model, switcher, prepared.panels.search, prepared.objectives[:1], 12)
        evaluations = JournaledEvaluations(evaluator, journal, "search")

        def check():
            if most is not None and evaluations.computed >= most:
                raise Stopped("enough")

        evaluations.check = check
        try:
            return SearchLoop(prepared.searcher(self.supernet), evaluations).run()
        finally:
            switcher.restore()


def rows_of(journal):
    return [(row.allocation, row.sequences, row.values) for row in journal.rows()]


def test_a_search_that_is_stopped_again_and_again_ends_with_the_same_bits(tmp_path, tiny_llama_folder):
    job = Interrupted(tmp_path, tiny_llama_folder, tiny_jobs.EVOPRESS)
    with Journal.create_or_open(tmp_path / "whole.sqlite") as journal:
        best, rows = job.search(journal), rows_of(journal)
    with Journal.create_or_open(tmp_path / "parts.sqlite") as journal:
        while True:
            try:
                again = job.search(journal, most=2)
                break
            except Stopped:
                pass
        assert (again, rows_of(journal)) == (best, rows)


def test_the_best_allocator_leaves_fisher_out(tmp_path, tiny_llama_folder):
    job = Interrupted(tmp_path, tiny_llama_folder, {"name": "best_allocator", "sequences": 2})
    with Journal.create_or_open(tmp_path / "journal.sqlite") as journal:
        best = job.search(journal)
    assert job.prepared.limits.met(best)


def job_of(tmp_path, **changes):
    return parse_config(tiny_jobs.mapping(tmp_path, "no/such-model", objective=TRACE, **changes))


@pytest.mark.parametrize("name", [name for name in SEARCHERS if name != "layer_error"])
def test_whoever_needs_sensitivities_is_refused_before_anything_is_loaded(tmp_path, name):
    config = job_of(tmp_path, searcher=name)
    if not SEARCHERS[name].wants_sensitivities(check_searcher(name, {})):
        check_names(config)
        return
    with pytest.raises(ConfigError, match=f"{name} needs the objective's sensitivities, which trace") as caught:
        check_names(config)
    assert "evopress" in str(caught.value) and "objective: kl or perplexity or hidden" in str(caught.value)


def test_those_are_all_that_ask_for_sensitivities():
    wanting = {name for name in SEARCHERS if SEARCHERS[name].wants_sensitivities(check_searcher(name, {}))}
    assert wanting == {"fisher", "quadratic", "differentiable", "knapsack", "tpe", "gp", "cmaes"}
    assert wanting & set(ALLOCATORS) == {"fisher"}


@pytest.mark.parametrize(
    ("searcher", "instead"),
    [
        ("knapsack", {"curves": "one_at_a_time"}),
        ("tpe", {"basis": "curve"}),
        ("gp", {"basis": "curve"}),
        ("cmaes", {"basis": "curve"}),
    ],
)
def test_the_option_that_would_work_is_named_and_works(tmp_path, searcher, instead):
    ((option, value),) = instead.items()
    with pytest.raises(ConfigError, match=rf"use searcher: {{name: {searcher}, {option}: {value}}}, or one of"):
        check_names(job_of(tmp_path, searcher=searcher))
    check_names(job_of(tmp_path, searcher={"name": searcher, **instead}))


@pytest.mark.parametrize(
    ("searcher", "objective", "wanted"),
    [
        ("tracenas", None, "trace"),
        ({"name": "tracenas", "generations": 2}, None, "trace"),
        ("tracenas", "kl", "kl"),
        ("evopress", None, "kl"),
        (None, None, "kl"),
    ],
)
def test_tracenas_takes_its_own_objective_where_a_job_names_none(searcher, objective, wanted):
    given = {"budget": {"sparsity": 0.5}, "searcher": searcher, "objective": objective}
    assert parse_config(given).objective.objective == wanted


def test_so_it_does_from_the_command_line_in_any_order(tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump({"budget": {"sparsity": 0.5}}))
    overrides = ("objective.panel.search=64", "searcher=tracenas", "searcher.generations=3")
    config = load_config(job, overrides)
    assert (config.objective.objective, config.objective.panel.search) == ("trace", 64)
    assert config.searcher.options == {"generations": 3}
