import json
import re

import pytest
import tiny_jobs

from sparsearch.job.lock import RunLock


def test_status_of_a_finished_run(finished, sparsearch):
    answer = sparsearch("status", finished)
    assert answer.code == 0
    first, second = answer.out.splitlines()
    assert first == f"{finished}: not running; stage compare, 2 of 2"
    assert re.fullmatch(r"[\d,]+ evaluations, [\d,]+ forward tokens", second)
    status = json.loads(sparsearch("status", finished, "--json").out)
    assert (status["stage"], status["running"], status["eta"]) == ("compare", False, None)
    assert status["best"]["objective"]["name"]
    assert status["evaluations"] > 20


def test_status_while_the_run_is_held(finished, sparsearch):
    with RunLock(finished):
        before = tiny_jobs.listing(finished)
        assert f"{finished}: running; " in sparsearch("status", finished).out
        assert json.loads(sparsearch("status", finished, "--json").out)["running"] is True
        assert tiny_jobs.listing(finished) == before


@pytest.mark.parametrize("command", ["status", "report", "eval"])
def test_folders_without_a_run(tmp_path, sparsearch, command):
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (empty, tmp_path / "absent"):
        answer = sparsearch(command, folder)
        assert answer.code in (2, 5)
        assert answer.err.count("\n") == 1
        assert f"{folder}" in answer.err
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_the_report_is_made_again_from_the_folder_alone(finished, tmp_path, sparsearch):
    (finished / "report.html").unlink()
    answer = sparsearch("report", finished)
    assert (answer.code, answer.out) == (0, f"report: {finished / 'report.html'}\n")
    page = (finished / "report.html").read_bytes()
    elsewhere = tmp_path / "pages" / "page.html"
    assert sparsearch("report", finished, "--out", elsewhere).code == 0
    assert elsewhere.read_bytes() == page


def test_an_unfinished_run_has_no_report_and_no_export(job_file, tmp_path, sparsearch):
    assert sparsearch("build", job_file, "--quiet").code == 0
    run = job_file.parent / "runs" / "job"
    report = sparsearch("report", run)
    assert report.code == 5
    assert f"{run} has no result yet; run sparsearch search" in report.err
    export = sparsearch("export", run, "--out", tmp_path / "out")
    assert export.code == 2
    assert "best.json does not exist (the search has not finished); allowed: best, uniform" in export.err
    assert not (tmp_path / "out").exists()
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("kind", ["searchers", "allocators", "spaces", "objectives", "pruners", "kernels"])
def test_listings_are_objects_with_a_name(sparsearch, kind):
    rows = json.loads(sparsearch("ls", kind, "--json").out)
    names = [row["name"] for row in rows]
    assert names
    assert len(set(names)) == len(names)
    assert all(row["summary"] for row in rows)
    shown = sparsearch("ls", kind).out
    for name in names:
        assert re.search(rf"^{re.escape(name)} ", shown, re.MULTILINE)


def test_what_is_listed_can_be_used(tmp_path, sparsearch):
    fields = {"searchers": "searcher", "allocators": "searcher", "spaces": "space", "objectives": "objective"}
    for kind, field in fields.items():
        for row in json.loads(sparsearch("ls", kind, "--json").out):
            job = tiny_jobs.write_job(tmp_path, "no/model", **{field: row["name"]})
            job.write_text(job.read_text().replace("pruner: wanda", "pruner: sparsegpt"))
            assert sparsearch("validate", job).code == 0, row["name"]
    for row in json.loads(sparsearch("ls", "pruners", "--json").out):
        space = {"levels": [0.5], "pruner": {"name": row["name"], **row["options"]}}
        assert sparsearch("validate", tiny_jobs.write_job(tmp_path, "no/model", space=space)).code == 0, row["name"]


def test_doctor_names_versions_and_the_machine(sparsearch):
    found = json.loads(sparsearch("doctor", "--json").out)
    assert {"python", "torch", "transformers", "memory", "disk", "cuda", "datasets"} <= found.keys()
    assert re.match(r"\d+\.\d+", found["torch"])
    shown = sparsearch("doctor").out
    assert all(re.search(rf"^{name} +\S", shown, re.MULTILINE) for name in found)


def test_every_kernel_is_available_or_says_why_it_is_not(sparsearch):
    doctor = json.loads(sparsearch("doctor", "--json").out)
    shown = sparsearch("ls", "kernels").out.splitlines()
    for row, line in zip(json.loads(sparsearch("ls", "kernels", "--json").out), shown, strict=True):
        reason = row["unavailable"]
        assert doctor[f"kernel {row['name']}"] == (f"unavailable: {reason}" if reason else "available")
        assert line.startswith(f"{row['name']} ")
        assert ("Unavailable: " in line) == bool(reason)


def test_eval_measures_profiles_beside_the_dense_model(finished, tmp_path, sparsearch):
    mine = tmp_path / "mine.json"
    mine.write_bytes((finished / "profiles" / "uniform.json").read_bytes())
    answer = sparsearch("eval", finished, "--profile", "best", "--profile", mine, "--json")
    assert answer.code == 0
    found = json.loads(answer.out)
    assert [row["name"] for row in found["rows"]] == ["dense", "best", str(mine)]
    stored = json.loads((finished / "profiles" / "best.json").read_text())["figures"]["heldout"]
    assert found["rows"][1]["objective"] == stored["searched: evopress"]["objective"]
    assert found["rows"][2]["objective"] == stored["uniform"]["objective"]
    table = sparsearch("eval", finished).out.splitlines()
    assert [line.split()[0] for line in table[1:]] == ["dense", "uniform", "best"]


def test_eval_leaves_the_result_of_the_search_alone(finished, sparsearch):
    job_file = finished.parent.parent / "job.yaml"
    assert sparsearch("eval", finished, "--profile", "uniform", "--profile", "best").code == 0
    before = (finished / "profiles" / "best.json").read_bytes()
    assert sparsearch("search", job_file, "--quiet").code == 0
    assert (finished / "profiles" / "best.json").read_bytes() == before


@pytest.mark.parametrize("command", [["eval"], ["export", "--out", "out"]])
def test_profiles_that_are_none_or_fit_another_space(finished, tmp_path, monkeypatch, sparsearch, command):
    monkeypatch.chdir(tmp_path)
    other = json.loads((finished / "profiles" / "best.json").read_text())
    other["sites"][3]["level"] = "0.123"
    (tmp_path / "other.json").write_text(json.dumps(other))
    (tmp_path / "text.json").write_text("no JSON")
    for name, code, wanted in (
        ("absent.json", 2, "--profile: absent.json does not exist (no such file); allowed: best, uniform"),
        ("other.json", 2, "has level '0.123'; the space offers dense, 0.25, 0.5, 0.75"),
        ("text.json", 5, "text.json is not valid JSON"),
    ):
        answer = sparsearch(command[0], finished, *command[1:], "--profile", name)
        assert answer.code == code, answer.err
        assert wanted in answer.err
    assert not (tmp_path / "out").exists()


def test_export_says_what_it_wrote_and_verified(finished, tmp_path, sparsearch):
    out = tmp_path / "out"
    answer = sparsearch("export", finished, "--out", out, "--profile", "uniform")
    assert answer.code == 0
    assert answer.out.splitlines() == [
        f"wrote {out}: 50.00% sparse over its sites",
        next(line for line in answer.out.splitlines() if line.startswith("reloaded in a fresh process: ")),
    ]
    assert "largest logit difference 0, 50." in answer.out


def test_export_as_json_and_into_a_folder_that_is_taken(finished, tmp_path, sparsearch):
    out = tmp_path / "out"
    found = json.loads(sparsearch("export", finished, "--out", out, "--no-verify", "--json").out)
    assert found == {"out": str(out), "sparsity": pytest.approx(0.5), "max_difference": None, "zeros": None}
    before = tiny_jobs.listing(out)
    again = sparsearch("export", finished, "--out", out)
    assert again.code == 2
    assert f"out: {out} exists and is not an empty folder" in again.err
    assert tiny_jobs.listing(out) == before
    layout = sparsearch("export", finished, "--out", tmp_path / "other", "--layout", "dens")
    assert layout.code == 2
    assert "--layout: 'dens' is unknown; allowed: dense (did you mean 'dense'?)" in layout.err


def test_a_truncated_shard_is_named(finished, tmp_path, sparsearch):
    shard = next(finished.parent.glob("supernets/*/sites/00003.safetensors"))
    whole = shard.read_bytes()
    site = json.loads(shard.with_suffix(".json").read_text())["site"]
    for damage, wanted in (
        (whole[:-100], f"has {len(whole) - 100} bytes instead of {len(whole)}"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "is damaged: its checksum is not the manifest's"),
    ):
        shard.write_bytes(damage)
        before = tiny_jobs.listing(finished.parent)
        answer = sparsearch("export", finished, "--out", tmp_path / "out")
        assert answer.code == 5
        assert f"error: {shard} (site {site}) {wanted}; delete this file and run sparsearch build" in answer.err
        assert tiny_jobs.listing(finished.parent) == before
    assert not (tmp_path / "out").exists()
    shard.unlink()
    assert "is missing" in sparsearch("export", finished, "--out", tmp_path / "out").err
    assert sparsearch("build", finished.parent.parent / "job.yaml", "--quiet").code == 0
    assert shard.read_bytes() == whole


def test_a_supernet_that_is_gone_is_told(finished, tmp_path, sparsearch):
    supernet = next(finished.parent.glob("supernets/*"))
    supernet.rename(tmp_path / "away")
    answer = sparsearch("export", finished, "--out", tmp_path / "out")
    assert answer.code == 5
    assert f"error: {supernet} holds no complete supernet; run sparsearch build" in answer.err
