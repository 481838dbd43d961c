"""What came of the fits of a reproduction, beside what the reports publish."""

from collections.abc import Iterable
from dataclasses import dataclass

from pairs_lit.reproduction.jobs import Conditions, Job, all_jobs
from pairs_lit.reproduction.published import Report, Row
from pairs_lit.runs.run import Run
from pairs_lit.statistics import Difference, Summary, welch


@dataclass(frozen=True)
class Outcome:
    """One row of a report, published and ours.

    Attributes:
        report: The report.
        row: The row, as published.
        fit: Ours.
        recipe: The sweep or variant that ours belongs to, or ``ALONE``; empty: it is the row's own.
        value: The sweep's value.
    """

    report: Report
    row: Row
    fit: Run
    recipe: str
    value: float | None

    @property
    def ours(self) -> Summary:
        """Our figure for what the report publishes."""
        return self.fit.summary[self.report.column]

    @property
    def difference(self) -> Difference | None:
        """Ours minus published, by Welch's interval; None where nothing is published."""
        published = self.report.sample(self.row)
        return None if published is None or self.ours.n < 2 else welch(self.ours, published)


def read_fit(job: Job) -> Run | None:
    """Read a fit's run folder; None if it is not finished."""
    if job.finished is None:
        return None
    run = Run.load(job.finished)
    _ = run.facts  # what is damaged is named before anything is made of it
    return run


def outcomes(report: Report, conditions: Conditions) -> list[Outcome]:
    """Return what came of the finished fits of a report, its table first."""
    fits = [(job, read_fit(job)) for job in all_jobs(report, conditions)]
    return [Outcome(report, job.row, fit, job.recipe, job.value) for job, fit in fits if fit is not None]


def of_recipe(found: Iterable[Outcome], recipe: str) -> list[Outcome]:
    """Return what came of one recipe; the empty one is that of the table."""
    return [outcome for outcome in found if outcome.recipe == recipe]


def sources(fits: Iterable[Run]) -> str:
    """Say where the data came from, which seeds, which commit and which torch made the figures."""
    found = list(fits)
    data = sorted({str(fit.facts.data["source"]) for fit in found})
    commits = sorted({commit for fit in found for commit in fit.facts.commits})
    torch = sorted({fit.facts.torch for fit in found})
    return f"Data: {', '.join(data)}. Commit: {', '.join(commits)}. torch {', '.join(torch)}."
