"""Runtimes that are packed by measured times: of a file that is named, or of the job's budget."""

import dataclasses
import json

import pytest
import tiny_jobs
from measured import table_for

from sparsearch.errors import ConfigError, ConflictError
from sparsearch.export.measured import measured_packing
from sparsearch.export.run import export_run, open_run
from sparsearch.hardware.table import write_table
from sparsearch.job.job import Job
from sparsearch.model.load import load_model
from sparsearch.runtime import PackedLinear, load
from sparsearch.space import Allocation

FASTEST = {"dense": "dense", "0.25": "dense", "0.5": "bitmask_fp32", "0.75": "bitmask_fp32"}
"""By level, what the made-up table says: sparse products take longer than dense up to 40 %."""


@pytest.fixture
def run(tmp_path, tiny_llama_folder):
    return tiny_jobs.finished_run(tiny_llama_folder, tmp_path / "finished")


@pytest.fixture
def table(tiny_llama_folder):
    return table_for(load_model(str(tiny_llama_folder)))


@pytest.fixture
def file(tmp_path, table):
    write_table(tmp_path / "cpu.json", table)
    return tmp_path / "cpu.json"


def edited(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def backends_of(out):
    module = load(out)
    return {name: m.forms[0].backend.name for name, m in module.named_modules() if isinstance(m, PackedLinear)}


def test_a_named_file_says_what_every_site_is_packed_for(run, file, tmp_path):
    done = export_run(run, tmp_path / "out", layout="runtime", hardware=file)
    wanted = {site["name"]: FASTEST[site["level"]] for site in done.profile.sites}
    assert len(set(wanted.values())) == 2 and done.packing.doubts == ()
    file.unlink()
    assert {name: backend for name, backend in backends_of(done.out).items() if name in wanted} == wanted
    counts = [list(wanted.values()).count(name) for name in ("bitmask_fp32", "dense")]
    assert done.packing.text == (f"fastest for 1 token at once by {file}: {counts[0]} bitmask_fp32, {counts[1]} dense")
    assert done.verified.max_difference < 1e-3


def test_without_a_file_sites_go_to_their_smallest_form(run, tmp_path):
    done = export_run(run, tmp_path / "out", layout="runtime", verify=False)
    assert done.packing is None and "bitmask_fp32" not in backends_of(done.out).values()


def test_a_job_with_a_latency_budget_is_packed_by_the_times_that_it_was_budgeted_with(
    tmp_path, tiny_llama_folder, file
):
    budget = {"latency": "0.9x", "hardware": str(file), "tokens": 16}
    job = Job.of(tiny_jobs.mapping(tmp_path, tiny_llama_folder, budget=budget))
    space = job.prepared.space
    mixed = Allocation.of([index % 4 for index in range(len(space))])
    packing = measured_packing(job, mixed, None)
    for site, levels, index in zip(space.sites, space.levels, mixed.levels, strict=True):
        assert [backend.name for backend, _ in packing.forms[site.name]] == [FASTEST[levels[index].label]]
    assert packing.text.startswith(f"fastest for 16 tokens at once by {file}: ")
    job.folder.claim(job.config)
    file.unlink()
    assert str(job.folder.hardware) in measured_packing(job, mixed, None).text
    edited(job.folder.hardware, lambda found: found.update(rounds=7))
    with pytest.raises(ConflictError, match=r"restore it, or begin in another run\.dir"):
        measured_packing(job, mixed, None)


def refused(run, out, file, match, **options):
    with pytest.raises(ConfigError, match=match):
        export_run(run, out, **({"layout": "runtime", "hardware": file} | options))
    assert not out.exists() and not list(out.parent.glob(f".{out.name}*"))


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1}'])
def test_a_file_that_is_no_table_is_refused_before_anything_is_written(run, file, tmp_path, text):
    file.write_text(text)
    refused(run, tmp_path / "out", file, r"--hardware: .*cpu\.json")


def test_a_file_that_does_not_serve_is_refused_before_anything_is_written(run, file, table, tmp_path):
    out = tmp_path / "out"
    refused(run, out, tmp_path / "gone.json", r"--hardware: .*gone\.json is no file; give one that sparsearch measure")
    refused(run, out, file, "--hardware and --strict: allowed only with --layout runtime", layout="dense")
    write_table(file, dataclasses.replace(table, cells=tuple(c for c in table.cells if c.shape != (48, 32))))
    refused(run, out, file, r"--hardware: .*cpu\.json: .*the shape 48 x 32 of site .* was not measured")
    write_table(file, table)
    edited(file, lambda found: found["fingerprint"].update(device="cuda"))
    refused(run, out, file, "was measured on cuda; the runtime works on a CPU")


def test_another_machine_is_a_doubt_and_refused_when_strict(run, file, tmp_path):
    edited(file, lambda found: found["fingerprint"].update(processor="Abacus"))
    refused(run, tmp_path / "out", file, "another machine: processor is 'Abacus' there .*without --strict", strict=True)
    (doubt,) = export_run(run, tmp_path / "out", layout="runtime", hardware=file, verify=False).packing.doubts
    assert doubt.startswith(f"{file} was measured on another machine: processor is 'Abacus'")


def test_the_copy_of_a_run_that_names_no_file_does_not_matter(run, file):
    job = open_run(run)
    job.folder.hardware.write_bytes(file.read_bytes())
    assert measured_packing(job, job.prepared.space.dense(), None) is None
