"""Claims of the reports, and the rows that test them, read from ``configs/reports/claims.yaml``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pairs_lit.reproduction.published import REPORTS, Report
from pairs_lit.runs.metrics import EPOCH_METRICS
from pairs_lit.runs.shipped_configs import REPORTS_FOLDER
from pairs_lit.runs.tables import METRIC_COLUMNS
from pairs_lit.runs.yaml_dataclasses import raise_at_key, read_dataclass


@dataclass(frozen=True)
class Side:
    """One side of a comparison: one metric of every round of a row."""

    report: str
    row: str
    metric: str = "test_accuracy"  # a column of rounds.csv, or with an epoch a metric of curves.csv
    epoch: int | None = None  # the epoch after which it is measured, or None for the finished run
    variant: str = ""  # the variant of the row's recipe, or empty for the recipe itself
    label: str = ""  # what sentences call it, or empty for the row's name

    @property
    def fit_key(self) -> tuple[str, str, str]:
        """The key of the fit that it belongs to: report, row and variant."""
        return self.report, self.row, self.variant


@dataclass(frozen=True)
class Contrast:
    """A comparison of two sides: difference of means, ratio of standard deviations, or ratio of times per round."""

    title: str  # what is compared, for tables
    first: Side
    second: Side
    kind: Literal["mean", "spread", "time"] = "mean"
    yes_if: Literal["higher", "lower", "neither"] = "neither"  # what the first side is if the answer is yes


@dataclass(frozen=True)
class Claim:
    """A question, the reports' answer, and the comparisons that test it."""

    question: str
    said: str
    contrasts: tuple[Contrast, ...]
    remark: str = ""  # why the reproduction may differ, and caveats; without numbers, which come from runs only


@dataclass(frozen=True)
class _ClaimsFile:
    """Content of the claims file, in the order of the page's sections."""

    claims: tuple[Claim, ...]


def read_claims(file: Path, reports: Mapping[str, Report]) -> tuple[Claim, ...]:
    """Read the claims, whose contrasts compare rows of these reports.

    Raises:
        PairsLitError: Something is missing, unknown or of the wrong type; the message names file and key.
    """
    claims = read_dataclass(file, _ClaimsFile).claims
    for claim in claims:
        for contrast in claim.contrasts:
            place = (str(file), "claims", claim.question, "contrasts", contrast.title)
            _check_side(contrast.first, reports, (*place, "first"))
            _check_side(contrast.second, reports, (*place, "second"))
    return claims


def _check_side(side: Side, reports: Mapping[str, Report], place: tuple[str, ...]) -> None:
    """Raise PairsLitError if a side names no fit of these reports."""
    if side.report not in reports:
        raise_at_key((*place, "report"), f"there is no report {side.report!r}, use {', '.join(reports)}")
    report = reports[side.report]
    rows = {"": tuple(row.name for row in report.rows)} | {each.name: each.rows for each in report.variants}
    if side.variant not in rows:
        variants = ", ".join(filter(None, rows)) or "none"
        raise_at_key((*place, "variant"), f"{report.name} has no variant {side.variant!r}, use {variants}")
    if side.row not in rows[side.variant]:
        raise_at_key(
            (*place, "row"), f"there is no row {side.row!r} of {report.name}, use {', '.join(rows[side.variant])}"
        )
    known, kind = (
        (METRIC_COLUMNS, "column of rounds.csv") if side.epoch is None else (CURVE_METRICS, "metric of curves.csv")
    )
    if side.metric not in known:
        raise_at_key((*place, "metric"), f"{side.metric!r} is no {kind}, use {', '.join(known)}")


CURVE_METRICS = tuple(metric.tag for metric in EPOCH_METRICS)
"""The metrics that a side can take after an epoch, as ``curves.csv`` names them."""

CLAIMS = read_claims(REPORTS_FOLDER / "claims.yaml", REPORTS)
