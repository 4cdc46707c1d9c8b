"""What a report shows, gathered before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sparsearch.evaluation.intervals import Interval, verdict
from sparsearch.space import Profile


@dataclass(frozen=True)
class Objective:
    """What was minimised, as headings and axes call it.

    Attributes:
        name: such as `KL`, `perplexity`, `hidden error`.
        unit: such as `nats/token`; empty for a figure without one.
    """

    name: str
    unit: str = ""

    @property
    def heading(self) -> str:
        """Name and unit for a column or an axis."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True)
class ComparisonRow:
    """One model of the comparison table, measured on the held-out panel.

    Attributes:
        name: `dense`, `uniform`, an allocator's name, `searched`.
        objective: in the objective's unit.
        perplexity: None where the model has none.
        sparsity: fraction of the sites' weights gone.
        seconds: what finding the allocation took.
        forward_tokens: what finding it cost, in tokens through the model (a backward counts as two).
        resources: what the whole model costs, by the resources' names.
    """

    name: str
    objective: Interval
    perplexity: Interval | None
    sparsity: float
    seconds: float
    forward_tokens: float
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """A paired comparison on the held-out panel: `interval` is of candidate - reference, below 0 better."""

    candidate: str
    reference: str
    interval: Interval

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `no significant difference`, from the interval."""
        return verdict(self.interval)


@dataclass(frozen=True)
class FrontPoint:
    """A point of a front, or an allocation to compare it with.

    Attributes:
        name: `pareto:K`, as `export --profile` takes it; `uniform`, an allocator's name.
        objective: its interval has no width where the point was not evaluated again after the search.
        shares: resource to what it costs, over what the dense model costs.
    """

    name: str
    objective: Interval
    shares: Mapping[str, float]


@dataclass(frozen=True)
class FrontReport:
    """What a multi-objective search has found by now.

    Attributes:
        resources: that the front is of, besides the objective.
        points: of the front, from the cheapest in the first resource.
        knee: the name of the point at the knee.
        references: what the front is compared with.
        panel: the sequences that the objectives were measured on, such as `held-out panel`.
        volume: (forward tokens evaluated, hypervolume of the front so far as a share of its box).
        worst: the objective of the reference point of the hypervolume; None without one.
        sequences: of the search panel, on which the hypervolume was measured.
    """

    resources: tuple[str, ...]
    points: tuple[FrontPoint, ...]
    knee: str
    references: tuple[FrontPoint, ...] = ()
    panel: str = "held-out panel"
    volume: tuple[tuple[float, float], ...] = ()
    worst: float | None = None
    sequences: int = 0


@dataclass(frozen=True)
class ReportData:
    """The content of a report.

    Attributes:
        title: of the page.
        objective: what the rows' and the curve's intervals measure.
        rows: the comparison table, in the order to show.
        differences: paired comparisons; the first one is the headline.
        profiles: `best`, and `uniform` where there is one under the same budget.
        curve: (forward tokens so far, objective of the best allocation so far), tokens increasing.
        curve_panel: the sequences that the curve was measured on, such as `search panel`.
        curve_references: name to an objective on the same panel, for horizontal lines.
        front: of a multi-objective search.
        finished: whether the search is over; until then there is nothing but its front.
        config_yaml: the job's YAML.
        provenance: model, fingerprints, searcher, seed, versions, as text.
        notes: sentences for the reader.
        confidence: level of all intervals.
    """

    title: str
    objective: Objective
    rows: tuple[ComparisonRow, ...]
    differences: tuple[Difference, ...]
    profiles: Mapping[str, Profile]
    curve: tuple[tuple[float, Interval], ...] = ()
    curve_panel: str = "search panel"
    curve_references: Mapping[str, float] = field(default_factory=dict)
    front: FrontReport | None = None
    finished: bool = True
    config_yaml: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    confidence: float = 0.95
