"""What came of the fits of a reproduction, beside what the reports publish."""

from collections.abc import Iterable
from dataclasses import dataclass

from pairs_lit.reproduction.fits import Conditions, all_jobs
from pairs_lit.reproduction.published import Report, Row
from pairs_lit.runs.run import FinishedRun
from pairs_lit.statistics import Difference, Summary, welch


@dataclass(frozen=True)
class Outcome:
    """One finished fit beside what the report publishes for its row."""

    report: Report
    row: Row
    fit: FinishedRun
    recipe: str  # the job's
    value: float | None  # the sweep's

    @property
    def ours(self) -> Summary:
        """Our figure for what the report publishes."""
        return self.fit.summary[self.report.column]

    @property
    def difference(self) -> Difference | None:
        """Ours minus published, by Welch's interval; None where nothing is published."""
        published = self.report.sample(self.row)
        return None if published is None or self.ours.n < 2 else welch(self.ours, published)


def outcomes(report: Report, conditions: Conditions) -> list[Outcome]:
    """Return what came of the finished fits of a report, its table first."""
    found = []
    for job in all_jobs(report, conditions):
        folder = job.finished
        if folder is not None:
            fit = FinishedRun.load(folder)
            _ = fit.facts  # what is damaged is named before anything is made of it
            found.append(Outcome(report, job.row, fit, job.recipe, job.value))
    return found


def of_recipe(found: Iterable[Outcome], recipe: str) -> list[Outcome]:
    """Return what came of one recipe; the empty one is that of the table."""
    return [outcome for outcome in found if outcome.recipe == recipe]


def sources(fits: Iterable[FinishedRun]) -> str:
    """Say which data, which commits and which torch made the figures."""
    facts = [fit.facts for fit in fits]
    data = sorted({str(each.data["source"]) for each in facts})
    commits = sorted({commit for each in facts for commit in each.commits})
    torch = sorted({each.torch for each in facts})
    return f"Data: {', '.join(data)}. Commit: {', '.join(commits)}. torch {', '.join(torch)}."


def seconds_a_round(fit: FinishedRun) -> float:
    """Return the time that a fit took, over its rounds."""
    return fit.facts.seconds / len(fit.rounds)
