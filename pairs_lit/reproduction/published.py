"""What the reports publish, row by row, and the further runs that answer what they leave open, read from their file.

``configs/reports/published.yaml`` holds the figures, ``configs/<folder>/<row>.yaml`` each row's recipe.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pairs_lit.reproduction.reading import read, refuse
from pairs_lit.runs.configs import COURSE
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
    """One row of a report's table.

    Attributes:
        name: The config's name.
        title: What the report calls it.
        parameters: Of one round's network; where the report gives none, of the widths chosen here.
        mean: Published mean test accuracy, a fraction of pairs; None: nothing is published, and likewise below.
        std: Published std over rounds.
        train: Published training accuracy.
        test: Published test accuracy in more detail.
        minutes: Published total time of all rounds.
    """

    name: str
    title: str
    parameters: int
    mean: float | None = None
    std: float | None = None
    train: Spread | None = None
    test: Spread | None = None
    minutes: float | None = None


@dataclass(frozen=True)
class Sweep:
    """A row with one quantity at several values, judged on validation pairs.

    Attributes:
        name: For its files.
        row: The name of the row that is varied.
        options: Options on the command line, by name; ``{}`` stands for the value.
        title: What the curve's axis says.
        values: The quantity's values.
    """

    name: str
    row: str
    options: Mapping[str, str]
    title: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Variant:
    """Rows with another recipe, which may explain why ours differ from the published ones.

    It is compared with the published test accuracy knowingly: it explains a row and never replaces it.

    Attributes:
        name: For :class:`~pairs_lit.reproduction.claims.Side`.
        title: What is different, in words.
        options: Options on the command line, by name.
        rows: Names of the rows that it is tried on.
    """

    name: str
    title: str
    options: Mapping[str, str]
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Plot:
    """Curves over epochs, side by side.

    Attributes:
        rows: Names of the rows that it compares.
        panels: By metric, as in ``curves.csv``, the label of its axis with the unit.
    """

    rows: tuple[str, ...]
    panels: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """One report.

    Attributes:
        name: Its author.
        folder: Of its configs.
        rounds: How many rounds its figures are the mean of.
        rows: Its table.
        plots: Its figures over epochs, by file name.
        column: What of a round the published figure is the mean of.
        sweeps: Options that it says it searched.
        alone: How many rounds are also trained one at a time, for their time.
        variants: Other recipes for rows in which ours differ.
        remark: Why ours differ; without figures, which only the runs may give.
    """

    name: str
    folder: str
    rounds: int
    rows: tuple[Row, ...]
    plots: Mapping[str, Plot] = field(default_factory=dict)
    column: Literal["test_accuracy", "best_test_accuracy"] = "test_accuracy"
    sweeps: tuple[Sweep, ...] = ()
    alone: int = 0
    variants: tuple[Variant, ...] = ()
    remark: str = ""

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
    """Refuse names of rows that the report has not, and recipes of one name, which would be taken for each other."""
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
