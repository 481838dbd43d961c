"""What came of the fits of a reproduction, beside what the reports publish."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pairs_lit.reproduction.jobs import Conditions, Job, alone_job, row_job, sweep_jobs, variant_jobs
from pairs_lit.reproduction.published import Report, Row, Sweep, Variant
from pairs_lit.runs.summary import Facts, read_facts, readable
from pairs_lit.runs.tables import Curves, RoundResult, read_curves, read_rounds, summaries
from pairs_lit.statistics import Difference, Sample, Summary, welch


@dataclass(frozen=True)
class Fit:
    """A finished fit, as its run folder tells it.

    Attributes:
        folder: The run folder.
        results: Its rounds.
        facts: What it says of itself.
    """

    folder: Path
    results: list[RoundResult]
    facts: Facts

    @property
    def summaries(self) -> dict[str, Summary]:
        """Every metric over the rounds that did not fail."""
        return summaries(self.results)

    @property
    def failed(self) -> int:
        """How many rounds failed."""
        return sum(result.status != "ok" for result in self.results)

    @property
    def curves(self) -> Curves:
        """All epochs."""
        with readable(self.folder):
            return read_curves(self.folder / "curves.csv")


@dataclass(frozen=True)
class Outcome:
    """One row of a report, published and ours."""

    report: Report
    row: Row
    fit: Fit

    @property
    def ours(self) -> Summary:
        """Our figure for what the report publishes."""
        return self.fit.summaries[self.report.column]

    @property
    def sample(self) -> Sample:
        """Our figure, as a report would give it."""
        return Sample(self.ours.n, self.ours.mean, self.ours.std)

    @property
    def difference(self) -> Difference | None:
        """Ours minus published, by Welch's interval; None where nothing is published."""
        published = self.report.sample(self.row)
        return None if published is None or self.ours.n < 2 else welch(self.sample, published)


def read_fit(job: Job) -> Fit | None:
    """Read a fit's run folder; None where it is not finished."""
    folder = job.finished
    if folder is None:
        return None
    with readable(folder):
        return Fit(folder, read_rounds(folder / "rounds.csv"), read_facts(folder))


def outcomes(report: Report, conditions: Conditions) -> list[Outcome]:
    """Return the finished rows of a report."""
    fits = [(row, read_fit(row_job(report, row, conditions))) for row in report.rows]
    return [Outcome(report, row, fit) for row, fit in fits if fit is not None]


def varied(report: Report, variant: Variant, conditions: Conditions) -> list[Outcome]:
    """Return the finished rows of a report with another recipe."""
    rows = {row.name: row for row in report.rows}
    fits = {name: read_fit(job) for name, job in variant_jobs(report, variant, conditions).items()}
    return [Outcome(report, rows[name], fit) for name, fit in fits.items() if fit is not None]


def alone(report: Report, conditions: Conditions) -> dict[str, Fit]:
    """Return, by row, the finished fits that trained rounds one after the other."""
    fits = {row.name: read_fit(alone_job(report, row, conditions)) for row in report.rows if report.alone}
    return {name: fit for name, fit in fits.items() if fit is not None}


def swept(report: Report, sweep: Sweep, conditions: Conditions) -> dict[float, Fit]:
    """Return, by value, the finished fits of a sweep."""
    fits = {value: read_fit(job) for value, job in sweep_jobs(report, sweep, conditions).items()}
    return {value: fit for value, fit in fits.items() if fit is not None}


def sources(fits: Iterable[Fit]) -> str:
    """Say where the data came from, which seeds, which commit and which torch made the figures."""
    found = list(fits)
    data = sorted({str(fit.facts.data["source"]) for fit in found})
    commits = sorted({commit for fit in found for commit in fit.facts.commits})
    torch = sorted({fit.facts.torch for fit in found})
    return f"Data: {', '.join(data)}. Commit: {', '.join(commits)}. torch {', '.join(torch)}."
