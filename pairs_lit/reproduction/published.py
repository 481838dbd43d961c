"""What the reports publish, row by row, and the further runs that answer what they leave open, read from their file.

``configs/reports/published.yaml`` holds the figures, ``configs/<folder>/<row>.yaml`` each row's recipe.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pairs_lit.runs.shipped_configs import COURSE
from pairs_lit.runs.yaml_dataclasses import read, refuse
from pairs_lit.statistics import Summary

ALONE = "alone"
"""The recipe that trains a few rounds of a row one after the other, for their time."""


@dataclass(frozen=True)
class Spread:
    """Mean, max, median and std over rounds, as hakobyan gives them."""

    mean: float
    max: float
    median: float
    std: float


@dataclass(frozen=True)
class Row:
    """One row of a report's table; None: the report does not say."""

    name: str  # the config's
    title: str  # what the report calls it
    parameters: int  # of one round's network; where the report gives none, of the widths chosen here
    mean: float | None = None  # test accuracy over rounds, a fraction of pairs
    std: float | None = None
    train: Spread | None = None  # training accuracy
    test: Spread | None = None  # test accuracy in more detail
    minutes: float | None = None  # total time of all rounds
    percent: float | None = None  # of the first row's time, as the report prints it, not recomputed from the minutes


@dataclass(frozen=True)
class Sweep:
    """A row with one quantity at several values, judged on validation pairs."""

    name: str  # for its files
    row: str
    options: Mapping[str, str]  # by name on the command line; {} stands for the value
    title: str  # what the curve's axis says
    values: tuple[float, ...]


@dataclass(frozen=True)
class Variant:
    """Rows with another recipe, which may explain why ours differ from the published ones.

    It is compared with the published test accuracy knowingly: it explains a row and never replaces it.
    """

    name: str  # for the sides of claims
    title: str  # what is different, in words
    options: Mapping[str, str]  # by name on the command line
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Plot:
    """Curves of some rows over epochs, one panel a metric."""

    rows: tuple[str, ...]
    panels: Mapping[str, str]  # by metric, as in curves.csv, the label of its axis with the unit


@dataclass(frozen=True)
class Report:
    """One report."""

    name: str  # its author
    folder: str  # of its configs
    rounds: int  # how many its figures are the mean of
    rows: tuple[Row, ...]
    plots: Mapping[str, Plot] = field(default_factory=dict)  # by file name
    column: Literal["test_accuracy", "best_test_accuracy"] = "test_accuracy"  # what its figures are the mean of
    sweeps: tuple[Sweep, ...] = ()  # options that it says it searched
    alone: int = 0  # how many rounds are also trained one at a time, for their time
    variants: tuple[Variant, ...] = ()
    remark: str = ""  # why ours differ; without figures, which only the runs may give

    def sample(self, row: Row) -> Summary | None:
        """Return a row's published figure with its n; None where nothing is published."""
        return None if row.mean is None or row.std is None else Summary(self.rounds, row.mean, row.std)

    @property
    def publishes(self) -> bool:
        """Whether it has a published figure."""
        return any(self.sample(row) is not None for row in self.rows)


@dataclass(frozen=True)
class _Published:
    """The whole file; its order is that of figures and pages."""

    reports: tuple[Report, ...]


def read_reports(file: Path) -> dict[str, Report]:
    """Read the reports, by name.

    Raises:
        PairsLitError: Something is missing, unknown or of the wrong kind; the message names file and key.
    """
    reports = read(file, _Published).reports
    for report in reports:
        _check_names(report, (str(file), "reports", report.name))
    return {report.name: report for report in reports}


def _check_names(report: Report, place: tuple[str, ...]) -> None:
    """Refuse unknown names of rows, and two recipes of one name, which would be taken for each other."""
    known = [row.name for row in report.rows]
    named = {("plots", name): plot.rows for name, plot in report.plots.items()}
    named |= {("sweeps", sweep.name): (sweep.row,) for sweep in report.sweeps}
    named |= {("variants", variant.name): variant.rows for variant in report.variants}
    for keys, rows in named.items():
        for row in rows:
            if row not in known:
                refuse((*place, *keys), f"there is no row {row!r}, use {', '.join(known)}")
    recipes = ["", ALONE, *(sweep.name for sweep in report.sweeps), *(variant.name for variant in report.variants)]
    for name in recipes:
        if recipes.count(name) > 1:
            refuse(place, f"two recipes have the name {name!r}, give one of its sweeps or variants another")


REPORTS = read_reports(COURSE / "published.yaml")
PUBLISHED = tuple(report for report in REPORTS.values() if report.publishes)
"""The reports that publish figures; the others are further runs."""
