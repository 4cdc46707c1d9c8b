import json

import pytest
import yaml


def test_compare_shows_runs_warnings_and_differences(finished, tmp_path, sparsearch):
    job_file, other = finished.parent.parent / "job.yaml", finished.parent / "other"
    assert sparsearch("search", job_file, "-o", "objective.panel.heldout=6", "--run", other, "--quiet").code == 0
    table = sparsearch("compare", finished, finished)
    assert table.code == 0
    heading, first, _, headline = table.out.splitlines()
    assert heading.split()[:3] == ["run", "searcher", "budget"]
    assert first.startswith(f"{finished}  evopress  sparsity 0.5")
    assert headline.startswith(f"No significant gain of {finished} over {finished}")
    warned = sparsearch("compare", finished, other).out.splitlines()
    assert warned[3].startswith(
        "warning: the held-out panels differ, so the held-out values are not comparable (panel "
    )
    assert len(warned) == 4
    found = json.loads(sparsearch("compare", finished, other, "--json").out)
    assert [row["run"] for row in found["runs"]] == [str(finished), str(other)]
    assert (len(found["warnings"]), found["differences"]) == (1, [])


def test_compare_needs_finished_runs(tmp_path, sparsearch):
    assert sparsearch("compare").code == 2
    answer = sparsearch("compare", tmp_path / "absent")
    assert answer.code == 5
    assert "does not exist; give the folder of a run" in answer.err


def test_a_run_as_an_optuna_study(finished, tmp_path, sparsearch):
    answer = sparsearch("study", finished, "--out", tmp_path / "study.log")
    assert answer.code == 0
    written = json.loads(sparsearch("study", finished, "--out", tmp_path / "again.log", "--json").out)
    assert answer.out == f"wrote {tmp_path / 'study.log'}: {written['trials']} trials; " + (
        f"optuna-dashboard {tmp_path / 'study.log'} shows them\n"
    )
    again = sparsearch("study", finished, "--out", tmp_path / "study.log")
    assert (again.code, "exists; choose another file" in again.err) == (2, True)


def test_a_recipe_in_place_of_a_checkpoint(finished, tmp_path, sparsearch):
    recipe = tmp_path / "recipe.yaml"
    answer = sparsearch("export", finished, "--recipe", "llm-compressor", "--out", recipe)
    assert (answer.code, answer.out) == (0, f"wrote {recipe}: 50.00% sparse over its sites\n")
    assert list(yaml.safe_load(recipe.read_text())) == ["sparsity_stage"]
    levels = tmp_path / "levels.txt"
    evopress = ["export", finished, "--recipe", "evopress", "--out", levels]
    answer = sparsearch(*evopress, "--step", "200", "--profile", "best")
    first, note = answer.out.splitlines()
    assert first.startswith(f"wrote {levels}, {levels}.json: ")
    assert note.startswith(
        "note: levels are whole steps of 200 weights from 0.5: rounding changed the sparsity from 50.00"
    )
    found = json.loads(sparsearch(*evopress, "--json").out)
    assert found["files"] == [str(levels), f"{levels}.json"]
    assert found["sparsity"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--recipe", "llmcompressor"],
            "--recipe: 'llmcompressor' is unknown; allowed: evopress, evopress-depth, llm-com",
        ),
        (["--recipe", "evopress", "--layout", "sliced"], "--layout: 'sliced' with --recipe; a recipe has no layout"),
        (["--recipe", "evopress-depth"], "depth text can only say"),
        (["--step", "5"], "--target and --step: allowed only with --recipe evopress"),
    ],
)
def test_recipes_that_cannot_be(finished, tmp_path, sparsearch, arguments, message):
    answer = sparsearch("export", finished, "--out", tmp_path / "out", *arguments)
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "out").exists()


def test_an_imported_allocation_is_evaluated_and_started_from(finished, tmp_path, sparsearch):
    levels, mine = tmp_path / "levels.txt", tmp_path / "mine.json"
    assert sparsearch("export", finished, "--recipe", "evopress", "--out", levels).code == 0
    answer = sparsearch("import", "evopress", levels, "--run", finished, "--out", mine)
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == [
        f"wrote {mine}",
        "asked for 50.00%, the nearest levels give 50.00%: 0 of 14 sites rounded, by up to 0.00%",
        "budget sparsity 0.5 is met",
    ]
    rows = json.loads(sparsearch("eval", finished, "--profile", "best", "--profile", mine, "--json").out)["rows"]
    assert rows[1]["objective"] == rows[2]["objective"]
    job_file, warm = finished.parent.parent / "job.yaml", finished.parent / "warm"
    start = ["search", job_file, "-o", f"warm_start={mine}", "--run", warm, "--quiet"]
    assert sparsearch(*start).code == 0
    assert sparsearch(*start).code == 0
    # Another start is another job.
    answer = sparsearch("search", job_file, "--run", warm, "--quiet")
    assert answer.code == 3
    assert "warm_start: " in answer.err


def test_import_without_a_job_and_as_json(finished, tmp_path, sparsearch, tiny_llama_folder):
    levels, mine = tmp_path / "levels.txt", tmp_path / "mine.json"
    names = [site["name"] for site in json.loads((finished / "profiles" / "best.json").read_text())["sites"]]
    levels.write_text("\n".join(f"{name}: 0" for name in names))
    given = ["import", "evopress", levels, "--model", tiny_llama_folder, "--out", mine]
    found = json.loads(sparsearch(*given, "--target", "0.6", "--json").out)
    assert found == {
        "out": str(mine), "sparsity": pytest.approx(0.6, abs=1e-3), "asked": pytest.approx(0.6), "changed": 0,
        "largest_change": pytest.approx(0, abs=2e-3), "budget_met": True,
    }  # fmt: skip
    assert "budget sparsity 0.62 is not met" in sparsearch(*given, "--target", "0.62").out
    answer = sparsearch(*given)
    assert (answer.code, "--target: missing" in answer.err) == (2, True)


def test_import_needs_one_place(tmp_path, sparsearch):
    for place in ([], ["--run", "a", "--model", "b"]):
        answer = sparsearch("import", "evopress", "x.txt", "--out", tmp_path / "p.json", *place)
        assert answer.code == 2
        assert "--run, --model: give one of them, so that the sizes of the layers are known" in answer.err
