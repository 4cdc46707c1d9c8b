import json
import re
import shutil

import pytest
import tiny_jobs

from sparsearch.errors import ResourceError
from sparsearch.job.journal import Journal
from sparsearch.report.run import comparison_data, read_report_data, write_report


@pytest.fixture
def run(tmp_path, tiny_llama_folder):
    return tiny_jobs.finished_run(tiny_llama_folder, tmp_path)


def test_the_data_are_those_of_the_run(run):
    data = read_report_data(run)
    best = json.loads((run / "profiles" / "best.json").read_text())
    rows = {row.name: row for row in data.rows}
    assert list(rows)[:2] == ["dense", "uniform"]
    for name, row in rows.items():
        assert row.objective.mean == best["figures"]["heldout"][name]["objective"]["mean"]
        assert row.perplexity.mean == best["figures"]["heldout"][name]["perplexity"]["mean"]
    assert rows["searched: evopress"].sparsity == best["sparsity"]
    assert rows["searched: evopress"].forward_tokens > 0
    assert {difference.candidate for difference in data.differences} == {"searched: evopress"}
    assert [difference.reference for difference in data.differences] == list(rows)[1:-1]
    assert data.profiles.keys() == {"best", "uniform"}
    assert data.profiles["best"].to_dict() == best
    assert data.config_yaml == (run / "config.yaml").read_text()
    assert data.provenance["searcher"] == "evopress"
    assert data.provenance["model dtype"] == "auto"


def test_the_curve_begins_at_uniform_and_ends_at_the_search_s_end(run):
    data = read_report_data(run)
    tokens = [point[0] for point in data.curve]
    assert tokens == sorted(tokens)
    evaluated = json.loads((run / "profiles" / "best.json").read_text())["figures"]["evaluated_tokens"]
    assert tokens[-1] <= evaluated
    assert data.curve_panel == "first 8 held-out sequences"
    assert data.curve_references["uniform"] == pytest.approx(data.rows[1].objective.mean)
    assert data.curve[-1][1].mean == pytest.approx(data.rows[-1].objective.mean)


def test_one_self_contained_page_and_the_same_again(run, tmp_path):
    page = write_report(run)
    assert page == run / "report.html"
    text = page.read_text()
    for wanted in ("<svg", "searched: evopress", "uniform", "generations: 3"):
        assert wanted in text
    assert not re.search(r'(src|href)="(https?:)?//', text)
    assert write_report(run, tmp_path / "again.html").read_text() == text


def test_it_needs_neither_model_nor_supernet_nor_data(run, tmp_path):
    text = write_report(run).read_text()
    moved = tmp_path / "only this" / "job"
    shutil.copytree(run, moved)
    shutil.rmtree(run.parent)
    assert write_report(moved).read_text() == text


def test_without_a_result_there_is_no_page(run):
    (run / "report.html").unlink(missing_ok=True)
    with Journal.create_or_open(run / "journal.sqlite") as journal:
        journal.set_fact("comparison", None)
    with pytest.raises(ResourceError, match=r"has no result yet; run sparsearch search with its config\.yaml"):
        write_report(run)
    (run / "journal.sqlite").unlink()
    with pytest.raises(ResourceError, match=r"journal\.sqlite does not exist"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_a_comparison_without_curve_and_perplexity():
    interval = {"mean": 1.0, "low": 0.5, "high": 2.0}
    row = {
        "name": "a",
        "objective": interval,
        "perplexity": None,
        "sparsity": 0.5,
        "seconds": 0.0,
        "forward_tokens": 0.0,
    }
    data = comparison_data({"objective": {"name": "KL", "unit": "nats"}, "rows": [row], "differences": []}, title="t")
    assert data.rows[0].perplexity is None
    assert (data.curve, data.differences, data.curve_references) == ((), (), {})
