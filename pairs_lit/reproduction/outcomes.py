"""What came of the fits of a reproduction, beside what the reports publish."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pairs_lit.reproduction.jobs import Conditions, Job, all_jobs
from pairs_lit.reproduction.published import Report, Row
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
    fit: Fit
    recipe: str
    value: float | None

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
    """Return what came of the finished fits of a report, its table first."""
    fits = [(job, read_fit(job)) for job in all_jobs(report, conditions)]
    return [Outcome(report, job.row, fit, job.recipe, job.value) for job, fit in fits if fit is not None]


def of_recipe(found: Iterable[Outcome], recipe: str) -> list[Outcome]:
    """Return what came of one recipe; the empty one is that of the table."""
    return [outcome for outcome in found if outcome.recipe == recipe]


def sources(fits: Iterable[Fit]) -> str:
    """Say where the data came from, which seeds, which commit and which torch made the figures."""
    found = list(fits)
    data = sorted({str(fit.facts.data["source"]) for fit in found})
    commits = sorted({commit for fit in found for commit in fit.facts.commits})
    torch = sorted({fit.facts.torch for fit in found})
    return f"Data: {', '.join(data)}. Commit: {', '.join(commits)}. torch {', '.join(torch)}."
