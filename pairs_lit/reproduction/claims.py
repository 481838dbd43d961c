"""What the reports claim, and which of our rounds answer it, read from ``configs/reports/claims.yaml``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pairs_lit.reproduction.published import REPORTS, Report
from pairs_lit.runs.metrics import EPOCH_METRICS
from pairs_lit.runs.shipped_configs import COURSE
from pairs_lit.runs.tables import METRIC_COLUMNS
from pairs_lit.runs.yaml_dataclasses import read, refuse


@dataclass(frozen=True)
class Side:
    """One figure of every round of a row."""

    report: str
    row: str
    metric: str = "test_accuracy"  # a column of rounds.csv, or with an epoch a metric of curves.csv
    epoch: int | None = None  # after which; None: of the finished run
    variant: str = ""  # its name, where the row has another recipe

    @property
    def fit(self) -> tuple[str, str, str]:
        """Which fit it is of, by report, row and variant."""
        return self.report, self.row, self.variant


@dataclass(frozen=True)
class Contrast:
    """First against second: difference of means, ratio of standard deviations, or ratio of the seconds a round."""

    title: str  # what is compared, in words
    first: Side
    second: Side
    kind: Literal["mean", "spread", "time"] = "mean"


@dataclass(frozen=True)
class Claim:
    """A question, what the reports say, and our contrasts."""

    question: str
    said: str
    contrasts: tuple[Contrast, ...]
    remark: str = ""  # why ours may differ, or what to bear in mind; without figures, which only the runs may give


@dataclass(frozen=True)
class _Claims:
    """The whole file; its order is that of the page."""

    claims: tuple[Claim, ...]


def read_claims(file: Path, reports: Mapping[str, Report]) -> tuple[Claim, ...]:
    """Read the claims; their contrasts compare rows of these reports.

    Raises:
        PairsLitError: Something is missing, unknown or of the wrong kind; the message names file and key.
    """
    claims = read(file, _Claims).claims
    for claim in claims:
        for contrast in claim.contrasts:
            place = (str(file), "claims", claim.question, "contrasts", contrast.title)
            _check_side(contrast.first, reports, (*place, "first"))
            _check_side(contrast.second, reports, (*place, "second"))
    return claims


def _check_side(side: Side, reports: Mapping[str, Report], place: tuple[str, ...]) -> None:
    """Refuse a side that no fit can have."""
    if side.report not in reports:
        refuse((*place, "report"), f"there is no report {side.report!r}, use {', '.join(reports)}")
    report = reports[side.report]
    rows = {"": tuple(row.name for row in report.rows)} | {each.name: each.rows for each in report.variants}
    if side.variant not in rows:
        variants = ", ".join(filter(None, rows)) or "none"
        refuse((*place, "variant"), f"{report.name} has no variant {side.variant!r}, use {variants}")
    if side.row not in rows[side.variant]:
        refuse((*place, "row"), f"there is no row {side.row!r} of {report.name}, use {', '.join(rows[side.variant])}")
    known, kind = (
        (METRIC_COLUMNS, "column of rounds.csv") if side.epoch is None else (CURVE_METRICS, "metric of curves.csv")
    )
    if side.metric not in known:
        refuse((*place, "metric"), f"{side.metric!r} is no {kind}, use {', '.join(known)}")


CURVE_METRICS = tuple(metric.tag for metric in EPOCH_METRICS)
"""What is measured after each epoch."""

CLAIMS = read_claims(COURSE / "claims.yaml", REPORTS)
