"""Published results of the reports, row by row, and further runs that answer open questions.

They are read from ``configs/reports/published.yaml``; ``configs/<folder>/<row>.yaml`` is the recipe of a row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pairs_lit.runs.shipped_configs import REPORTS_FOLDER
from pairs_lit.runs.yaml_dataclasses import raise_at_key, read_dataclass
from pairs_lit.statistics import Summary

ALONE_RECIPE = "alone"
"""Name of the recipe that trains a few rounds of a row sequentially to measure their time."""


@dataclass(frozen=True)
class Spread:
    """Mean, maximum, median and standard deviation over rounds, as hakobyan's report gives them."""

    mean: float
    max: float
    median: float
    std: float


@dataclass(frozen=True)
class Row:
    """One row of a report's table, with None for values that the report does not give."""

    name: str  # name of its config
    title: str  # its name in the report
    parameters: int  # of one round's network; if the report gives no number, that of the widths chosen here
    mean: float | None = None  # test accuracy over rounds, a fraction of pairs
    std: float | None = None
    train: Spread | None = None  # training accuracy
    test: Spread | None = None  # test accuracy in more detail
    minutes: float | None = None  # total time of all rounds
    percent: float | None = None  # of the first row's time, as printed in the report: its minutes are rounded


@dataclass(frozen=True)
class Sweep:
    """A row trained with several values of one quantity, and evaluated on validation pairs."""

    name: str  # part of its file names
    row: str
    options: Mapping[str, str]  # by name on the command line; {} stands for the value
    title: str  # the label of the plot's axis
    values: tuple[float, ...]


@dataclass(frozen=True)
class Variant:
    """Another recipe for some rows, which may explain why the reproduced results differ from the published ones.

    It is chosen with knowledge of the published test accuracy, so it may explain a row but never replaces it.
    """

    name: str  # the name by which claims refer to it
    title: str  # how its recipe differs, in words
    options: Mapping[str, str]  # by name on the command line
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Plot:
    """Learning curves of some rows, with one panel for each metric."""

    rows: tuple[str, ...]
    panels: Mapping[str, str]  # axis label with unit, by metric of curves.csv


@dataclass(frozen=True)
class Report:
    """The published results of one report, and what is trained to reproduce them."""

    name: str  # its author
    folder: str  # folder of its configs
    rounds: int  # number of rounds that the published means are taken over
    rows: tuple[Row, ...]
    plots: Mapping[str, Plot] = field(default_factory=dict)  # by file name
    column: Literal["test_accuracy", "best_test_accuracy"] = "test_accuracy"  # the metric that it publishes
    sweeps: tuple[Sweep, ...] = ()  # options that its authors searched
    alone: int = 0  # number of rounds that are also trained one at a time, to measure their time
    variants: tuple[Variant, ...] = ()
    remark: str = ""  # why results may differ; without numbers, which come from runs only

    def get_published_summary(self, row: Row) -> Summary | None:
        """Return the published mean, std and n of a row, or None if nothing is published."""
        return None if row.mean is None or row.std is None else Summary(self.rounds, row.mean, row.std)

    @property
    def has_published_values(self) -> bool:
        """Whether any of its rows has a published mean."""
        return any(self.get_published_summary(row) is not None for row in self.rows)


@dataclass(frozen=True)
class _PublishedFile:
    """Content of the file; its order is that of plots and pages."""

    reports: tuple[Report, ...]


def read_reports(file: Path) -> dict[str, Report]:
    """Read the reports, by name.

    Raises:
        PairsLitError: Something is missing, unknown or of the wrong type; the message names file and key.
    """
    reports = read_dataclass(file, _PublishedFile).reports
    for report in reports:
        _check_names(report, (str(file), "reports", report.name))
    return {report.name: report for report in reports}


def _check_names(report: Report, place: tuple[str, ...]) -> None:
    """Raise PairsLitError if a row is unknown, or if two recipes have the same name."""
    known = [row.name for row in report.rows]
    rows_by_key = {("plots", name): plot.rows for name, plot in report.plots.items()}
    rows_by_key |= {("sweeps", sweep.name): (sweep.row,) for sweep in report.sweeps}
    rows_by_key |= {("variants", variant.name): variant.rows for variant in report.variants}
    for keys, rows in rows_by_key.items():
        for row in rows:
            if row not in known:
                raise_at_key((*place, *keys), f"there is no row {row!r}, use {', '.join(known)}")
    recipes = [
        "",
        ALONE_RECIPE,
        *(sweep.name for sweep in report.sweeps),
        *(variant.name for variant in report.variants),
    ]
    for name in recipes:
        if recipes.count(name) > 1:
            raise_at_key(place, f"two recipes have the name {name!r}, give one of its sweeps or variants another")


REPORTS = read_reports(REPORTS_FOLDER / "published.yaml")
PUBLISHED = tuple(report for report in REPORTS.values() if report.has_published_values)
"""The reports with published results; the others hold further runs."""
