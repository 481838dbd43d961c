"""Report of one run: its settings, the summary of its metrics, and its failed rounds."""

from pathlib import Path

from pairs_lit.analysis.failures import find_failures
from pairs_lit.analysis.tables import (
    Table,
    build_summary_table,
    describe_classes,
    describe_failures,
    describe_rounds_at_chance,
    drop_digit_metrics,
)
from pairs_lit.runs.run import FinishedRun
from pairs_lit.runs.run_metadata import UNRECORDED_SETTINGS
from pairs_lit.seeds import format_seeds
from pairs_lit.text import format_count


def build_run_report(run: FinishedRun) -> list[Table | str]:
    """Return the tables and paragraphs of the report; texts may be empty.

    Digit metrics are left out if the networks were not trained to classify digits.
    """
    failures, data = find_failures(run), {**UNRECORDED_SETTINGS, **run.data}
    summaries = drop_digit_metrics(run.summary) if run.digits_trained is False else run.summary
    return [
        _describe_settings(run),
        describe_classes(str(data["relation"]), run.class_names, int(data["classes"] or 10)),
        build_summary_table(summaries),
        describe_failures(failures.not_finite, failures.num_rounds),
        describe_rounds_at_chance(failures.at_chance, failures.num_rounds),
        f"run: {_shorten_path(run.folder)}",
    ]


def _shorten_path(folder: Path) -> Path:
    """Return the path relative to the current folder if it is below it."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _describe_settings(run: FinishedRun) -> str:
    seeds = [result.seed for result in run.rounds]
    return (
        f"{run.label}: {format_count(len(seeds), 'round')} ({format_seeds(seeds)}); data: {run.data['source']}, "
        f"{run.data['train_pairs']} training pairs, relation {run.data['relation']}"
    )
