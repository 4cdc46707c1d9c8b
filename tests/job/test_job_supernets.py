"""Searches that have supernets built around their allocations: what is measured, kept, resumed and exported."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_jobs
import torch
from transformers import AutoModelForCausalLM

from sparsearch.errors import ConfigError, ResourceError, Stopped
from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.export.run import export_run
from sparsearch.job import plan as plan_module
from sparsearch.job.job import Job
from sparsearch.job.journal import Journal
from sparsearch.job.loop import JournaledEvaluations, SearchLoop
from sparsearch.job.stop import StopRequest
from sparsearch.report.runs import read_finished_run
from sparsearch.search import Evaluate, Options, Rebuild, Searcher, Sense
from sparsearch.seeds import spawn
from sparsearch.space import Allocation, Profile
from sparsearch.supernet import Mixture, Supernet, Switcher

TYR = {"name": "tyr", "rounds": 2, "generations": 2, "offspring": 4, "survivors": [2, 1], "tokens": [31, 93]}
SPACE = {"levels": [step / 10 for step in range(1, 10)], "pruner": "sparsegpt", "accumulation": "expectation"}


def make(folder, checkpoint, name="job", space=SPACE, **options):
    searcher = TYR | {"rebuild": True} | options
    changes = {"searcher": searcher, "space": space, "run": {"dir": str(folder / "runs" / name)}}
    return Job.of(tiny_jobs.mapping(folder, checkpoint, **changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_llama_folder):
    """A job that has run to its end, its profile, and the supernet that it ended with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparsearch.job.baselines.ALLOCATORS", ("uniform", "erk"))
        job = make(tmp_path_factory.mktemp("rebuilt"), tiny_llama_folder)
        profile = job.search()
    folder = job.folder.path.parent / "supernets" / profile.provenance["supernet"]
    return SimpleNamespace(job=job, profile=profile, supernet=Supernet(folder, job.prepared.space))


@pytest.fixture(autouse=True)
def few_allocators(monkeypatch):
    monkeypatch.setattr("sparsearch.job.baselines.ALLOCATORS", ("uniform", "erk"))


def contents(job):
    with Journal.read(job.folder.journal) as journal:
        facts = {key: journal.fact(key) for key in ("rebuilt", "found", "found_panel")}
        return (
            list(journal.rows()),
            facts,
            {path.name: path.read_bytes() for path in job.folder.path.glob("profiles/*")},
        )


def values_on(job, supernet, panel, allocation, sequences):
    switcher = Switcher(job.prepared.model, supernet)
    evaluator = Evaluator(job.prepared.model, switcher, panel, job.prepared.objectives[:1], len(panel))
    found = evaluator.values([allocation], sequences)[0]
    switcher.restore()
    return found


def test_a_rebuilt_supernet_lies_under_its_fingerprint_and_is_the_mean_around_the_round_s_start(finished):
    job = finished.job
    _, facts, _ = contents(job)
    centre = Allocation.of(facts["rebuilt"])
    assert len(list(job.folder.path.parent.glob("supernets/*/manifest.json"))) == 2
    identity = json.loads((finished.supernet.folder / "manifest.json").read_text())["identity"]
    mixture = Mixture.around(job.prepared.space, "expectation", centre)
    assert identity["propagate"] == mixture.describe()
    own = job.prepared.build_plan.identity(job.prepared.model)
    assert {key for key in own if own[key] != identity[key]} == {"propagate"}


def test_without_accumulation_the_start_itself_is_shown(finished, tmp_path, tiny_llama_folder):
    job = make(tmp_path, tiny_llama_folder, space=SPACE | {"accumulation": "none"})
    centre = Allocation((3,) * 14)
    assert job.prepared.plan_around(centre).propagate == centre


def test_values_are_those_of_the_supernet_that_their_panel_names(finished):
    job, prepared = finished.job, finished.job.prepared
    rebuilt = f"on {finished.supernet.fingerprint}"
    rows, facts, _ = contents(job)
    assert {row.panel for row in rows} == {"search", f"search {rebuilt}", f"heldout {rebuilt}"}
    assert facts["found_panel"] == f"heldout {rebuilt}"
    own = Supernet(prepared.supernet_folder, prepared.space)
    differing = 0
    for row in [row for row in rows if row.objective == "kl"][:: max(1, len(rows) // 12)]:
        panel = prepared.panels.heldout if row.panel.startswith("heldout") else prepared.panels.search
        first, last = (values_on(job, s, panel, row.allocation, row.sequences) for s in (own, finished.supernet))
        expected = first if row.panel == "search" else last
        np.testing.assert_allclose(row.values, expected, rtol=1e-4, atol=1e-7)
        differing += not np.allclose(first, last, rtol=1e-3)
    assert differing


class Asking(Searcher):
    """Asks for the same sensitivities before and after a supernet is rebuilt."""

    name = "asking"

    def steps(self):
        here, self.answers = Allocation((5,) * 14), []
        for request in (Sense(here, (0, 1)), Rebuild(here), Sense(here, (0, 1)), Evaluate((here,), (0, 1))):
            self.answers.append((yield request))
        return here


def test_sensitivities_and_output_errors_are_those_of_the_supernet_too(finished, tmp_path):
    prepared = finished.job.prepared
    own = Supernet(prepared.supernet_folder, prepared.space)
    switcher = Switcher(prepared.model, own)
    evaluator = Evaluator(prepared.model, switcher, prepared.panels.search, prepared.objectives[:1], 12)

    def asked(journal, **parts):
        evaluations = JournaledEvaluations(evaluator, journal, "search")
        loop = SearchLoop(Asking(prepared.problem(own), Options(), spawn(0, "asking")), evaluations, **parts)
        try:
            loop.run()
        finally:
            switcher.restore()
        return loop

    with Journal.create_or_open(tmp_path / "journal.sqlite") as journal:
        loop = asked(journal, rebuilder=lambda allocation: finished.supernet)
        before, errors, after, values = loop.searcher.answers
        key = [key for key in (loop.sensitivities._key(Sense(loop.rebuilt, (0, 1))),) if journal.arrays(key)]
        assert key and finished.supernet.fingerprint in key[0]
        np.testing.assert_array_equal(errors, finished.supernet.errors)
        assert not np.array_equal(before.gradient, after.gradient)
        expected = values_on(finished.job, finished.supernet, prepared.panels.search, loop.rebuilt, (0, 1))
        np.testing.assert_allclose(values[0], expected, rtol=1e-4)
        switcher.exchange(own)
        again = asked(journal, rebuilder=lambda allocation: finished.supernet)
        assert np.array_equal(again.searcher.answers[2].gradient, after.gradient)
        assert np.array_equal(again.searcher.answers[0].gradient, before.gradient)
        switcher.exchange(own)
        with pytest.raises(ValueError, match="no supernets"):
            asked(journal)


def test_compare_finds_the_values_and_evaluate_measures_on_the_last_supernet(finished):
    run = read_finished_run(finished.job.folder.path)
    shown = finished.profile.figures["heldout"]["searched: tyr"]["objective"]["mean"]
    assert run.values is not None and float(run.values.mean()) == pytest.approx(shown)
    before = contents(finished.job)
    (_, row) = finished.job.evaluate({"best": finished.profile})["rows"]
    assert row["objective"]["mean"] == shown
    assert contents(finished.job) == before


def test_what_the_search_has_cost_counts_all_supernets(finished):
    with Journal.read(finished.job.folder.journal) as journal:
        totals, cost = journal.totals(), journal.fact("search_cost")
    first, *others = (totals[panel] for panel in sorted(totals) if panel.startswith("search"))
    assert first.evaluations < cost["evaluations"] <= first.evaluations + others[0].evaluations


def test_an_export_has_the_weights_of_the_last_supernet(finished, tmp_path):
    job = finished.job
    assert export_run(job.folder.path, tmp_path / "out").verified is not None
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float16).state_dict()
    allocation = Profile.load(job.folder.best).allocation(job.prepared.space)
    for index, (site, level) in enumerate(zip(job.prepared.space.sites, allocation.levels, strict=True)):
        if level:
            weight = exported[f"{site.module}.weight"]
            assert torch.equal(weight, finished.supernet.variant(index, level, weight))


def test_stopped_anywhere_it_ends_the_same(finished, tmp_path, tiny_llama_folder, monkeypatch):
    """Stops while the first supernet is built, in the first round, while the second is built, and in the second."""
    check, left, stages = StopRequest.check, [0], []

    def limited(self, progressed=True):
        left[0] -= 1
        if left[0] == 0:
            raise Stopped("test", 75)
        check(self, progressed)

    monkeypatch.setattr(StopRequest, "check", limited)
    monkeypatch.chdir(tmp_path)
    for calls in (5, 16, 34, 12, 10, 10**6):
        left[0] = calls
        job = make(tmp_path, tiny_llama_folder)
        try:
            job.search()
        except Stopped:
            stages.append(len(list(tmp_path.glob("runs/supernets/*/sites/*.safetensors"))))
    assert stages == sorted(stages) and stages[0] < 14 < stages[-1]
    assert contents(job) == contents(finished.job)


def test_a_full_disk_is_told_before_a_supernet_is_rebuilt_and_the_same_job_goes_on(
    finished, tmp_path, tiny_llama_folder, monkeypatch
):
    job = make(tmp_path, tiny_llama_folder)
    job.build()
    with monkeypatch.context() as patch:
        patch.setattr(plan_module, "free_bytes", lambda folder: 10)
        with pytest.raises(ResourceError, match=r"supernet .* needs about .* GiB are free"):
            job.search()
    assert len(list(tmp_path.glob("runs/supernets/*"))) == 1
    make(tmp_path, tiny_llama_folder).search()
    assert contents(job)[0] == contents(finished.job)[0]


def test_a_pruner_without_inputs_is_refused_and_more_supernets_are_told(tmp_path, tiny_llama_folder):
    space = {"levels": [0.25, 0.5, 0.75], "pruner": "magnitude"}
    with pytest.raises(ConfigError, match=r"searcher\.rebuild: magnitude looks at no inputs, .*the same supernet"):
        _ = make(tmp_path, tiny_llama_folder, space=space).prepared
    assert make(tmp_path, tiny_llama_folder, space=space, rebuild=False).prepared.warnings == ()
    (warning,) = make(tmp_path, tiny_llama_folder, rounds=4).prepared.warnings
    assert warning == "the searcher has 3 more supernets built, each as large as the first one"
