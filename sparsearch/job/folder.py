"""The run folder: what lies where, and whose it is."""

from __future__ import annotations

from itertools import count, takewhile
from pathlib import Path

from sparsearch.errors import ConflictError
from sparsearch.files import write_text
from sparsearch.job.config import JobConfig, config_difference, dump_config, load_config
from sparsearch.job.hardware import measured_file
from sparsearch.job.journal import FILE_NAME


class RunFolder:
    """Paths of a run folder: `config.yaml`, `journal.sqlite`, `profiles/`, `report.html`, `run.log`.

    `hardware.json` as well, where the budget names a file of measured times.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def config(self) -> Path:
        """The resolved job file."""
        return self.path / "config.yaml"

    @property
    def journal(self) -> Path:
        """The checkpoint."""
        return self.path / FILE_NAME

    @property
    def hardware(self) -> Path:
        """The job's own copy of the file of measured times, where its budget names one."""
        return self.path / "hardware.json"

    @property
    def best(self) -> Path:
        """The profile that the search found."""
        return self.path / "profiles" / "best.json"

    @property
    def uniform(self) -> Path:
        """The uniform allocation under the same budget."""
        return self.path / "profiles" / "uniform.json"

    def pareto(self, index: int) -> Path:
        """The profile of a point of the front, by its place in the order of the first resource."""
        return self.path / "profiles" / f"pareto_{index}.json"

    @property
    def front(self) -> tuple[Path, ...]:
        """The profiles of the front in its order; empty where the searcher looked for none."""
        return tuple(takewhile(Path.exists, map(self.pareto, count())))

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.path / "report.html"

    @property
    def log(self) -> Path:
        """Every line that a run printed."""
        return self.path / "run.log"

    def check(self, config: JobConfig) -> None:
        """Raises `ConflictError`, with the difference, when the folder belongs to another job."""
        if not self.config.exists():
            if self.journal.exists():
                raise ConflictError(
                    f"{self.path} has a journal but no config.yaml; restore it or choose another run.dir"
                )
            return
        lines = config_difference(load_config(self.config), config)
        if lines:
            raise ConflictError(
                "\n  ".join(
                    [
                        f"{self.path} belongs to another job; choose another run.dir or delete it. Different are:",
                        *lines,
                    ]
                )
            )

    def claim(self, config: JobConfig) -> None:
        """Makes the folder this job's.

        Raises:
            ConflictError: it is another job's, or the file of measured times has changed since it was read.
        """
        self.check(config)
        if config.hardware is not None and not self.hardware.exists():
            source = measured_file(config.hardware, self.hardware)
            write_text(self.hardware, source.read_text(encoding="utf-8"))
        if not self.config.exists():
            write_text(self.config, dump_config(config))
