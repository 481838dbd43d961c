"""Results of the finished fits of a reproduction, with the published ones."""

from collections.abc import Iterable
from dataclasses import dataclass

from pairs_lit.reproduction.fits import ReproductionSettings, iterate_jobs
from pairs_lit.reproduction.published import Report, Row
from pairs_lit.runs.run import FinishedRun
from pairs_lit.statistics import Difference, Summary, compare_by_welch


@dataclass(frozen=True)
class FitResult:
    """One finished fit and the published result of its row."""

    report: Report
    row: Row
    fit: FinishedRun
    recipe: str  # that of the job
    value: float | None  # that of the sweep, or None outside sweeps

    @property
    def ours(self) -> Summary:
        """The reproduced value of the metric that the report publishes."""
        return self.fit.summary[self.report.column]

    @property
    def difference(self) -> Difference | None:
        """Reproduced minus published with Welch's interval, or None if nothing is published or n is below 2."""
        published = self.report.get_published_summary(self.row)
        return None if published is None or self.ours.n < 2 else compare_by_welch(self.ours, published)


def load_fit_results(report: Report, conditions: ReproductionSettings) -> list[FitResult]:
    """Return the results of the finished fits of a report; those of its table come first."""
    results = []
    for job in iterate_jobs(report, conditions):
        folder = job.finished_run
        if folder is not None:
            fit = FinishedRun.load(folder)
            _ = fit.facts  # read now: a damaged file must raise before any page is written
            results.append(FitResult(report, job.row, fit, job.recipe, job.value))
    return results


def filter_by_recipe(found: Iterable[FitResult], recipe: str) -> list[FitResult]:
    """Return the results of one recipe; the empty name stands for the recipes of the table."""
    return [outcome for outcome in found if outcome.recipe == recipe]


def describe_sources(fits: Iterable[FinishedRun]) -> str:
    """Return which data, commits and versions of torch produced the results, as sentences."""
    facts = [fit.facts for fit in fits]
    data = sorted({str(fact.data["source"]) for fact in facts})
    commits = sorted({commit for fact in facts for commit in fact.commits})
    torch = sorted({fact.torch for fact in facts})
    return f"Data: {', '.join(data)}. Commit: {', '.join(commits)}. torch {', '.join(torch)}."


def get_seconds_per_round(fit: FinishedRun) -> float:
    """Return the training time of a fit divided by its number of rounds."""
    return fit.facts.seconds / len(fit.rounds)
