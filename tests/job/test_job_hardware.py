"""Jobs whose budget counts milliseconds: what they are refused for, and what makes them go on."""

import dataclasses
import json

import pytest
import tiny_jobs
import yaml
from measured import OUTSIDE, table_for

from sparsearch.errors import ConfigError, ConflictError, InfeasibleBudgetError
from sparsearch.hardware.fingerprint import machine_fingerprint
from sparsearch.hardware.table import write_table
from sparsearch.job.config import dump_config, identity, load_config, parse_config
from sparsearch.job.job import Job
from sparsearch.job.prepare import prepare
from sparsearch.model.load import load_model

SPACE = {"levels": [0.25, 0.5, 0.75], "pruner": "wanda"}


@pytest.fixture
def measured(tmp_path, tiny_llama_folder):
    """The file of a machine like this one, in which the tiny model was measured."""
    path = tmp_path / "cpu.json"
    write_table(path, table_for(load_model(str(tiny_llama_folder))))
    return path


@pytest.fixture
def config(tmp_path, tiny_llama_folder, measured):
    def make(**budget):
        changes = {"budget": {"hardware": str(measured)} | budget, "space": SPACE}
        return parse_config(tiny_jobs.mapping(tmp_path, tiny_llama_folder, **changes))

    return make


def test_latency_is_a_resource_of_the_space_and_of_the_plan(config, measured):
    job = Job(config(latency="0.9x", sparsity=0.3, bytes="0.97x"))
    space, plan = job.prepared.space, job.plan()
    assert job.prepared.limits.resources == ("bytes", "latency", "params")
    low, high = plan.reachable["latency"]
    assert OUTSIDE < low < high == space.cost("latency", space.dense())
    assert plan.budget["latency"] == "0.9x" and plan.warnings == ()
    assert plan.hardware == (
        f"{measured}: latency of decoding one token, threads: 1, predicted to within 0.0% where it was calibrated"
    )


def test_tokens_choose_what_a_latency_is_of(config):
    one, many = (prepare(config(latency="0.9x", tokens=tokens)).space for tokens in (1, 16))
    assert many.costs["latency"][0, 0] == pytest.approx(16 * one.costs["latency"][0, 0])


def test_without_a_bound_latency_is_still_reported_and_at_hand(config):
    space = prepare(config(sparsity=0.5)).space
    assert "latency" in space.resources


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"hardware": None, "latency": "0.5x"}, "budget.latency: nothing says what this machine takes; run sparsearch "
         "measure --out FILE and add hardware: FILE"),
        ({"hardware": None, "sparsity": 0.5, "tokens": 4}, "budget.tokens: found without hardware"),
        ({"latency": "0.5x", "tokens": 0}, "budget.tokens: found 0; allowed: a whole number of 1 or more"),
        ({"latency": "0.5x", "tokens": "x"}, "budget.tokens: found 'x'; allowed: a whole number"),
        ({}, "budget is empty; give at least one bound"),
        ({"latency": "soon"}, "budget.latency: 'soon' is not an amount"),
        ({"latency": "0.5x", "hardwre": 1}, "budget.hardwre: unknown key; allowed: .* .did you mean 'hardware'"),
        ({"latency": "0.5x", "hardware": 3}, "budget.hardware: found 3; allowed: the path of a file"),
        ({"latency": "0.5x", "hardware": {"file": "x"}}, "budget.hardware: found .*; allowed: the path of a file"),
        ({"latency": "0.5x", "hardware": "nowhere.json"}, "budget.hardware: .*nowhere.json is no file; give one that "
         "sparsearch measure"),
    ],
)  # fmt: skip
def test_budgets_that_make_no_sense_are_refused(config, measured, budget, message):
    given = {"hardware": str(measured)} | budget
    with pytest.raises(ConfigError, match=message):
        parse_config({"budget": {key: value for key, value in given.items() if value is not None}})


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 1}', '{"schema": 2, "cells": [{}]}'])
def test_a_file_that_is_no_table_is_refused_when_the_job_is_read(config, measured, text):
    measured.write_text(text)
    with pytest.raises(ConfigError, match=r"budget\.hardware: .*cpu\.json"):
        config(latency="0.5x")


def test_what_was_not_measured_is_refused_with_what_to_do(config):
    with pytest.raises(ConfigError, match=r"budget\.tokens: 4 were not measured .* run sparsearch measure with --tok"):
        prepare(config(latency="0.9x", tokens=4))


def test_a_budget_below_the_constant_part_says_what_is_reachable(config):
    with pytest.raises(
        InfeasibleBudgetError, match=r"latency: 0.001ms cannot be met; .*ms to .*ms .*, 0\.005ms of it outside"
    ):
        prepare(config(latency="1us"))


def edited(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_another_machine_is_warned_about_and_refused_when_strict(config, measured):
    edited(measured, lambda table: table["fingerprint"].update(processor="Abacus"))
    job = config(latency="0.9x")
    (warning,) = prepare(job).warnings
    assert "cpu.json was measured on another machine: processor is 'Abacus' there and " in warning
    with pytest.raises(ConfigError, match=r"measured on another machine: .*; or run without --strict"):
        prepare(job, strict=True)


def test_the_threads_of_the_table_are_its_own_business(config, measured):
    edited(measured, lambda table: table["fingerprint"].update(threads=64))
    assert prepare(config(latency="0.9x")).warnings == ()


def test_a_table_without_the_model_counts_products_alone_and_says_so(config, measured):
    edited(measured, lambda table: table["models"].clear())
    prepared = prepare(config(latency="0.9x"))
    assert prepared.space.constants["latency"] == 0
    assert "has no times of this whole model" in prepared.warnings[0]


def test_a_poor_calibration_is_told(config, measured, tiny_llama_folder):
    write_table(measured, table_for(load_model(str(tiny_llama_folder)), (0.5, 0.0, 0.5)))
    assert "measure again on an idle machine" in prepare(config(latency="0.9x")).warnings[0]


def test_the_dumped_config_is_the_same_job_and_knows_the_content(config, tmp_path, measured):
    job = config(latency="0.9x", tokens=16)
    (tmp_path / "again.yaml").write_text(dump_config(job))
    assert load_config(tmp_path / "again.yaml") == job
    assert identity(job)["budget"] == {"latency": "0.9x", "hardware_content": job.hardware.digest, "tokens": 16}
    moved = measured.rename(tmp_path / "moved.json")
    assert identity(config(latency="0.9x", tokens=16, hardware=str(moved))) == identity(job)
    assert identity(config(latency="0.9x", hardware=str(moved))) != identity(job)


def test_paths_start_from_the_job_file(tmp_path, measured):
    (tmp_path / "job.yaml").write_text("budget: {latency: 0.9x, hardware: cpu.json}\n")
    assert load_config(tmp_path / "job.yaml").hardware.file == measured


def test_a_run_keeps_its_times_and_refuses_others(tmp_path, tiny_llama_folder, measured, monkeypatch):
    budget = {"latency": "0.85x", "hardware": "cpu.json"}
    path = tiny_jobs.write_job(tmp_path, tiny_llama_folder, budget=budget, space=SPACE)
    profile = Job.load(path).search()
    run = tmp_path / "runs" / "job"
    assert profile.resources["latency"]["profile"] <= 0.85 * profile.resources["latency"]["dense"]
    assert profile.budget == {"latency": "0.85x"}
    assert "decoding one token" in profile.provenance["hardware"]
    first = (run / "profiles" / "best.json").read_bytes()

    other = dataclasses.replace(table_for(load_model(str(tiny_llama_folder))), rounds=99)
    write_table(measured, other)
    with pytest.raises(ConflictError, match=r"belongs to another job.*\n.*budget\.hardware_content: "):
        Job.load(path).search()

    # The run folder alone is enough: its config names the content, its copy holds it.
    measured.unlink()
    config = load_config(run / "config.yaml")
    assert Job(config).search().to_dict() == profile.to_dict()
    assert (run / "profiles" / "best.json").read_bytes() == first
    edited(run / "hardware.json", lambda table: table.update(rounds=98))
    with pytest.raises(ConflictError, match="missing or has changed since the job began"):
        Job(config).search()


def test_the_config_of_a_run_names_the_content(config, tmp_path):
    text = yaml.safe_load(dump_config(config(latency="0.9x")))
    assert set(text["budget"]["hardware"]) == {"file", "digest"}


def test_the_fingerprint_of_the_tests_is_this_machines(measured):
    assert json.loads(measured.read_text())["fingerprint"] == machine_fingerprint("cpu", 1, "float32")
