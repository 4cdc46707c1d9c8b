"""The report of a multi-objective job, finished and stopped, and the charts of any front."""

import shutil
import xml.etree.ElementTree as ElementTree

import pytest
from tiny_jobs import mapping

from sparsearch.cli.main import run
from sparsearch.errors import Stopped
from sparsearch.evaluation.intervals import Interval
from sparsearch.job.front import FRONT_POINTS, front_point
from sparsearch.job.job import Job
from sparsearch.report import Objective, render
from sparsearch.report.data import FrontPoint, FrontReport
from sparsearch.report.front import front_cells
from sparsearch.report.front_plots import front_svg, volume_svg
from sparsearch.report.run import read_report_data, write_report
from sparsearch.space import Profile

KL = Objective("KL", "nats/token")
SEARCHER = {
    "name": "nsga2", "resources": ["params", "bytes"], "generations": 3, "population": 12, "sequences": 2, "finals": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def searched(tmp_path_factory, tiny_llama_folder):
    folder = tmp_path_factory.mktemp("front")
    job = Job.of(mapping(folder, tiny_llama_folder, searcher=SEARCHER))
    job.search()
    return job


@pytest.fixture(scope="module")
def stopped(searched, tiny_llama_folder):
    """The same search in a folder of its own, stopped after its first generation."""

    def listen(event):
        if event.stage == "search" and event.done:
            raise Stopped("enough", 75)

    folder = searched.folder.path.parent.parent
    run_dir = {"run": {"dir": str(folder / "runs" / "stopped")}}
    job = Job.of(mapping(folder, tiny_llama_folder, searcher=SEARCHER, **run_dir), listen)
    with pytest.raises(Stopped):
        job.search()
    return job.folder.path


def test_points_are_those_of_the_profiles_as_measured_on_held_out_text(searched):
    front = read_report_data(searched.folder.path).front
    profiles = [Profile.load(path) for path in searched.folder.front]
    assert [point.name for point in front.points] == [f"pareto:{index}" for index in range(len(profiles))]
    for point, profile in zip(front.points, profiles, strict=True):
        assert point.objective == Interval(**profile.figures["heldout"]["searched: nsga2"]["objective"])
        assert point.objective.low < point.objective.mean < point.objective.high
        for name, share in point.shares.items():
            assert share == profile.resources[name]["profile"] / profile.resources[name]["dense"]
    assert (front.resources, front.panel) == (("params", "bytes"), "held-out panel")
    chosen = [point.name for point in front.points].index(front.knee)
    assert front_point(searched.folder, "knee", "") == profiles[chosen]


def test_the_front_is_compared_with_uniform_and_the_best_allocator(searched):
    data = read_report_data(searched.folder.path)
    uniform, best = data.front.references
    rows = {row.name: row for row in data.rows}
    assert uniform.name == "uniform" and best.name.startswith("best allocator: ")
    assert uniform.objective == rows["uniform"].objective and best.objective == rows[best.name].objective
    profile = Profile.load(searched.folder.uniform)
    shares = {name: profile.resources[name]["profile"] / profile.resources[name]["dense"] for name in uniform.shares}
    assert uniform.shares == pytest.approx(shares)


def test_page_and_terminal_show_the_front(searched, capsys):
    text = write_report(searched.folder.path).read_text()
    for wanted in (
        "<h2>The front",
        'aria-label="KL of',
        "<h3>Hypervolume",
        "The reference point, the same",
        "pareto:0",
    ):
        assert wanted in text
    assert write_report(searched.folder.path).read_text() == text
    heading, cells = front_cells(read_report_data(searched.folder.path).front, KL)
    assert heading == ("point", "KL (nats/token), held-out panel", "params of dense", "bytes of dense")
    assert sum("(knee)" in cell[0] for cell in cells) == 1
    assert cells[-2][0] == "uniform" and 3 <= len(cells) <= FRONT_POINTS + 2
    config = searched.folder.path / "config.yaml"
    assert run(["search", str(config), "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "params of dense" in printed and "pareto:0" in printed


def test_a_stopped_run_shows_the_front_so_far_without_its_model(stopped, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(stopped, moved)
    data = read_report_data(moved)
    assert not data.finished and data.rows == ()
    assert data.front.panel == "2 sequences of the search panel"
    assert [point.name for point in data.front.points][:1] == ["point 0"]
    assert data.front.volume and data.front.worst > 0
    text = write_report(moved).read_text()
    assert "The search has not finished" in text and "Hypervolume over the search" in text
    assert "<h2>Comparison</h2>" not in text and "--profile" not in text


def test_a_stopped_run_s_curve_is_the_beginning_of_the_finished_one(stopped, searched):
    part, whole = (read_report_data(path).front for path in (stopped, searched.folder.path))
    assert part.worst == whole.worst
    assert part.volume[-1][0] < whole.volume[-1][0] and part.volume[-1][1] <= whole.volume[-1][1]


@pytest.mark.parametrize("count", [1, 3, 16])
@pytest.mark.parametrize("resources", [("params",), ("params", "bytes", "flops")])
def test_charts_are_well_formed_and_the_same_again(report, count, resources):
    points = tuple(
        FrontPoint(
            f"pareto:{i}", Interval(5 / (1 + i), 4 / (1 + i), 6 / (1 + i)), dict.fromkeys(resources, 0.1 + i / 40)
        )
        for i in range(count)
    )
    volume = tuple((1e3 * (i + 1), 1 - 0.5 / (i + 1)) for i in range(count))
    front = FrontReport(resources, points, "pareto:0", points[-1:], volume=volume, worst=9.0, sequences=8)
    for svg in (front_svg(front, KL), volume_svg(front)):
        ElementTree.fromstring(svg)
    assert front_svg(front, KL) == front_svg(front, KL)
    assert "objective 9" in render(report(front=front))
