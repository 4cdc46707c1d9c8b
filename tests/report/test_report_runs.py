import json
import shutil

import numpy as np
import pytest
import tiny_jobs

from sparsearch.errors import ResourceError
from sparsearch.evaluation.intervals import paired_difference
from sparsearch.job.config import load_config
from sparsearch.job.job import Job
from sparsearch.job.journal import Journal
from sparsearch.report.runs import compare_runs, read_finished_run, repeats_cells, runs_cells
from sparsearch.seeds import spawn
from sparsearch.space import Profile


@pytest.fixture
def run(tmp_path, tiny_llama_folder):
    return tiny_jobs.finished_run(tiny_llama_folder, tmp_path / "finished")


@pytest.fixture
def other(run):
    """Another budget and searcher, the same model, text and panels."""
    job = Job.load(
        run.parent.parent / "job.yaml",
        (f"run.dir={run.parent / 'other'}", "budget.sparsity=0.3", "searcher={name: random, evaluations: 4}"),
    )
    job.search()
    return job.folder.path


def altered(run, folder, change):
    """A copy of a run whose best profile was changed."""
    shutil.copytree(run, folder)
    content = json.loads((folder / "profiles" / "best.json").read_text())
    change(content)
    (folder / "profiles" / "best.json").write_text(json.dumps(content))
    return folder


def test_a_run_s_figures_and_single_values(run):
    found = read_finished_run(run)
    best = Profile.load(run / "profiles" / "best.json")
    assert (found.searcher, found.budget) == ("evopress", {"sparsity": "0.5"})
    assert found.row.sparsity == best.sparsity
    assert found.row.objective.mean == best.figures["heldout"]["searched: evopress"]["objective"]["mean"]
    assert found.row.forward_tokens > 0 and found.row.seconds > 0
    assert found.values.shape == (load_config(run / "config.yaml").objective.panel.heldout,)
    assert found.values.mean() == pytest.approx(found.row.objective.mean)


def test_runs_on_the_same_panel_are_paired(run, other):
    found = compare_runs([run, other])
    assert found.warnings == ()
    (difference,) = found.differences
    first, second = (read_finished_run(folder).values for folder in (run, other))
    assert difference.interval == paired_difference(second, first, spawn(0, "bootstrap"))
    assert (difference.candidate, difference.reference) == (str(other), str(run))
    assert difference.verdict == "better"  # 30 % against 50 %
    content = json.loads(json.dumps(found.to_dict()))
    assert [row["searcher"] for row in content["runs"]] == ["evopress", "random"]
    assert content["runs"][1]["budget"] == {"sparsity": "0.3"}
    assert content["differences"][0]["verdict"] == "better"
    assert content["runs"][0].keys() >= {"objective", "perplexity", "sparsity", "forward_tokens", "seconds"}


def test_the_table_names_runs_searchers_and_budgets(run, other):
    heading, rows = runs_cells(compare_runs([run, other]).runs)
    assert heading[:4] == ("run", "searcher", "budget", "held-out KL (nats/token)")
    assert [row[:3] for row in rows] == [
        (str(run), "evopress", "sparsity 0.5"),
        (str(other), "random", "sparsity 0.3"),
    ]


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [("heldout_panel", "0123456789", "held-out panels"), ("model", "another/model", "models")],
)
def test_other_panels_and_models_are_not_compared(run, tmp_path, key, value, what):
    copy = altered(run, tmp_path / "copy", lambda content: content["provenance"].update({key: value}))
    found = compare_runs([run, copy, run])
    (warning,) = found.warnings
    assert warning.startswith(f"the {what} differ, so the held-out values are not comparable (")
    assert str(copy) in warning and value[:8] in warning
    (difference,) = found.differences  # of the first with itself
    np.testing.assert_equal(difference.interval.mean, 0.0)


def test_other_objectives_are_named_in_their_rows(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    with Journal.create_or_open(copy / "journal.sqlite") as journal:
        comparison = journal.fact("comparison")
        journal.set_fact("comparison", comparison | {"objective": {"name": "hidden error", "unit": ""}})
    found = compare_runs([run, copy])
    assert [warning.partition(" differ")[0] for warning in found.warnings] == ["the objectives"]
    assert found.differences == ()
    heading, rows = runs_cells(found.runs)
    assert heading[3] == "held-out objective"
    assert rows[0][3].endswith("KL (nats/token)") and rows[1][3].endswith("hidden error")


def test_runs_of_older_versions_are_shown_without_differences(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    with Journal.create_or_open(copy / "journal.sqlite") as journal:
        journal.set_fact("found", None)
    found = compare_runs([run, copy])
    assert found.differences == ()
    assert found.warnings == (
        f"{copy}: no paired differences, as the run was finished by an older version; "
        "run sparsearch search on its config.yaml again",
    )


def repeated(run, folder, seed, factor):
    """A copy of a run as if another seed had found something `factor` times as bad."""
    shutil.copytree(run, folder)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("\nseed: 0\n", f"\nseed: {seed}\n"))
    with Journal.create_or_open(folder / "journal.sqlite") as journal:
        comparison = journal.fact("comparison")
        row = comparison["rows"][-1]
        row["objective"] = {key: factor * value for key, value in row["objective"].items()}
        row["forward_tokens"] *= factor
        journal.set_fact("comparison", comparison)
    return folder


def test_runs_that_differ_in_their_seeds_alone_are_summed_up(run, tmp_path):
    copies = [repeated(run, tmp_path / f"seed {seed}", seed, factor) for seed, factor in ((1, 3.0), (2, 1.5))]
    found = compare_runs([run, *copies, run])
    (repeats,) = found.repeats
    assert [each.seed for each in repeats.runs] == [0, 1, 2]
    own = read_finished_run(run).row
    assert repeats.row.objective.mean == pytest.approx(1.5 * own.objective.mean)
    assert repeats.row.objective.high == pytest.approx(1.5 * own.objective.high)
    assert repeats.row.forward_tokens == pytest.approx(1.5 * own.forward_tokens)
    assert repeats.range == pytest.approx((own.objective.mean, 3 * own.objective.mean))
    heading, ((searcher, budget, seeds, *_, tokens),) = repeats_cells(found.repeats)
    assert heading[:3] == ("searcher", "budget", "seeds") and heading[4] == "range of seeds"
    assert (searcher, budget, seeds) == ("evopress", "sparsity 0.5", "3") and tokens != "–"
    content = json.loads(json.dumps(found.to_dict()))
    assert content["over_seeds"][0]["seeds"] == [0, 1, 2] and content["runs"][1]["seed"] == 1


def test_runs_of_other_settings_are_not_summed_up(run, tmp_path):
    copy = repeated(run, tmp_path / "copy", 1, 2.0)
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("generations: 3", "generations: 4"))
    assert compare_runs([run, copy]).repeats == compare_runs([run, run]).repeats == ()


def test_one_run_alone_and_unfinished_ones(run, tmp_path):
    found = compare_runs([run])
    assert (len(found.runs), found.warnings, found.differences) == (1, (), ())
    (run / "profiles" / "best.json").unlink()
    with pytest.raises(ResourceError, match="has no result yet; run sparsearch search"):
        compare_runs([run])
    with pytest.raises(ResourceError, match="does not exist; give the folder of a run"):
        compare_runs([tmp_path / "absent"])
