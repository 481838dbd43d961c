"""The pages of a reproduction: for each report a Markdown page, a CSV and figures; one forest plot over all."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from pairs_lit.analysis.figures import COLOURS, curves_figure, save, sweep_figure
from pairs_lit.analysis.tables import interval, mean_and_std, table
from pairs_lit.reproduction.claim_results import page
from pairs_lit.reproduction.claims import CLAIMS
from pairs_lit.reproduction.fit_results import Outcome, of_recipe, outcomes, seconds_a_round, sources
from pairs_lit.reproduction.fits import Conditions
from pairs_lit.reproduction.published import ALONE, PUBLISHED, REPORTS, Report, Sweep
from pairs_lit.runs.atomic_write import clear_leftovers, write_text_durably
from pairs_lit.runs.metrics import SPLIT_NAMES, Metric
from pairs_lit.runs.run import FinishedRun
from pairs_lit.runs.tables import write_csv
from pairs_lit.statistics import Summary

_COMPARED = ["ours − published", "95 % interval", "contains 0"]
_CSV = ["report", "row", "title", "parameters", "column", "published_mean", "published_std", "published_n"]
_CSV += ["n", "failed", "mean", "std", "median", "min", "max", "final_mean", "final_std", "best_mean", "best_std"]
_CSV += ["difference", "low", "high", "p", "contains_zero", "commit", "seconds"]


def write_pages(reports: Sequence[Report], conditions: Conditions, folder: Path) -> list[Path]:
    """Write the pages of some reports; of all finished rows, the forest plot and the page of the claims.

    Returns:
        The Markdown pages.
    """
    clear_leftovers(folder, below=False)  # of a call that was killed while it wrote
    found = {name: outcomes(report, conditions) for name, report in REPORTS.items()}
    pages = [_write_page(report, found[report.name], folder) for report in reports]
    rows = [row for report in PUBLISHED for row in of_recipe(found[report.name], "")]
    save(forest_figure(rows), folder / "forest.png", sources(row.fit for row in rows))
    return [*pages, *_write_answers(found, folder)]


def _write_answers(found: Mapping[str, Sequence[Outcome]], folder: Path) -> list[Path]:
    """Write the page of the claims, with those that finished rows of two or more rounds can answer."""
    fits = {
        (name, row.row.name, recipe): row.fit
        for name, rows in found.items()
        for recipe in ("", *(variant.name for variant in REPORTS[name].variants))
        for row in of_recipe(rows, recipe)
        if row.ours.n > 1
    }
    ready = [
        claim for claim in CLAIMS if all(each.first.fit in fits and each.second.fit in fits for each in claim.contrasts)
    ]
    if not ready:
        return []
    file = folder / "README.md"
    write_text_durably(file, page(ready, fits, sources(fits.values())))
    return [file]


def _write_page(report: Report, found: Sequence[Outcome], folder: Path) -> Path:
    rows = of_recipe(found, "")
    write_csv(folder / f"{report.name}.csv", _CSV, map(_csv_row, rows))
    seeds = sorted({(row.fit.rounds[0].seed, row.fit.rounds[-1].seed) for row in rows})
    shown = "; ".join(f"{first} to {last}" for first, last in seeds)
    parts = [
        f"# {report.name}",
        f"Made by `pairs-lit reproduce {report.name}`. Accuracies are fractions of test pairs, mean ± std (ddof 1) "
        f"over rounds; seeds {shown}. {sources(row.fit for row in rows)} Intervals: Welch's, from both n. "
        "Of the published rounds only mean and std are known, so no test of ranks backs these intervals: one that "
        "leaves out 0 hints at a difference, and does not show one.",
        *_table(report, rows),
        *_details(rows),
        *_times(rows, {each.row.name: each.fit for each in of_recipe(found, ALONE)}),
        *_variants(report, rows, found),
        *_curves(report, rows, folder),
        *(_sweep(report, sweep, of_recipe(found, sweep.name), folder) for sweep in report.sweeps),
    ]
    file = folder / f"{report.name}.md"
    write_text_durably(file, "\n\n".join(parts) + "\n")
    return file


def _csv_row(outcome: Outcome) -> tuple[object, ...]:
    row, fit, ours, found = outcome.row, outcome.fit, outcome.ours, outcome.difference
    final, best = (fit.summary[column] for column in ("test_accuracy", "best_test_accuracy"))
    return (
        *(outcome.report.name, row.name, row.title, fit.facts.parameters),
        *(outcome.report.column, row.mean, row.std, outcome.report.rounds),
        *(ours.n, len(fit.failed), ours.mean, ours.std, ours.median, ours.min, ours.max),
        *(final.mean, final.std, best.mean, best.std),
        *(("",) * 5 if found is None else (found.estimate, found.low, found.high, found.p, found.contains_zero)),
        *("; ".join(fit.facts.commits), round(fit.facts.seconds, 1)),
    )


def _table(report: Report, rows: Sequence[Outcome]) -> list[str]:
    """Published beside ours, after the last epoch and, where the report gives it, at the best test epoch."""
    columns = {"test_accuracy": "ours, final epoch"}
    note = []
    if report.column == "best_test_accuracy":
        columns = {"best_test_accuracy": "ours, best test accuracy"} | columns
        note = ["The report's figure is each round's accuracy at its *best test epoch*, which selects on the test set."]
    shown = []
    for row in rows:
        published, fit = report.sample(row.row), row.fit
        told = "–" if published is None else f"{published.mean:.4f} ± {published.std:.4f} (n = {published.n})"
        first, *others = (mean_and_std(fit.summary[column]) for column in columns)
        ours = [first + _failed(fit), *others]
        time = f"{fit.facts.seconds:.0f} s"
        shown.append([row.row.title, f"{fit.facts.parameters:,}", told, *ours, *_compared(row), time])
    return [table(["row", "parameters", "published", *columns.values(), *_COMPARED, "time"], shown, "github"), *note]


def _failed(fit: FinishedRun) -> str:
    return f", {len(fit.failed)} failed" if fit.failed else ""


def _compared(outcome: Outcome) -> list[str]:
    found = outcome.difference
    if found is None:
        return ["–"] * len(_COMPARED)
    return [f"{found.estimate:+.4f}", interval(found.low, found.high, "+"), "yes" if found.contains_zero else "no"]


def _details(rows: Sequence[Outcome]) -> list[str]:
    """Mean, max, median and std on train and test, where the report gives them."""
    shown = []
    for row in rows:
        for split, published in (("train", row.row.train), ("test", row.row.test)):
            if published is None:
                continue
            ours = row.fit.summary[Metric(split, "accuracy").column]
            for name, n, each in (("published", row.report.rounds, published), ("ours", ours.n, ours)):
                figures = (f"{value:.4f}" for value in (each.mean, each.max, each.median, each.std))
                shown.append([row.row.title, split, f"{name} (n = {n})", *figures])
    header = ["row", "pairs", "", "mean", "max", "median", "std"]
    return ["## Spread over rounds", table(header, shown, "github")] if shown else []


def _times(rows: Sequence[Outcome], alone: Mapping[str, FinishedRun]) -> list[str]:
    """Total, per-round and normalised time, one round at a time and in the stack, where the report gives times."""
    timed = [row for row in rows if row.row.minutes and row.row.name in alone]
    if not timed:
        return []
    figures = [(seconds_a_round(row.fit), seconds_a_round(alone[row.row.name])) for row in timed]
    shown = []
    for row, times in zip(timed, figures, strict=True):
        percent = [f"{100 * time / first:.1f}" for time, first in zip(times, figures[0], strict=True)]
        stack, single = times
        published = [f"{row.row.minutes:.2f} min", "–" if row.row.percent is None else f"{row.row.percent:.1f}"]
        ours = [f"{row.fit.facts.seconds / 60:.2f} min", f"{stack:.2f} s", percent[0], f"{single:.2f} s", percent[1]]
        shown.append([row.row.title, *published, *ours])
    header = ["row", "published, all rounds", "%", "stack, all rounds", "stack, a round", "%"]
    header += ["one at a time, a round", "%"]
    note = (
        "Published: 100 rounds on the authors' machine. Ours: with evaluation after each epoch and all files; "
        f"one at a time: {len(alone[timed[0].row.name].rounds)} rounds, stack size 1. Per cent of the first row; "
        "the published ones as printed."
    )
    return ["## Times", table(header, shown, "github"), note]


def _variants(report: Report, rows: Sequence[Outcome], found: Sequence[Outcome]) -> list[str]:
    """Other recipes for rows that differ from the published ones, each below the recipe that the row has."""
    tried = {variant.title: of_recipe(found, variant.name) for variant in report.variants}
    doubtful = {outcome.row.name for outcomes in tried.values() for outcome in outcomes}
    shown = [
        [row.title, recipe, mean_and_std(each.ours) + _failed(each.fit), *_compared(each)]
        for row in report.rows
        if row.name in doubtful
        for recipe, outcomes in ({"as above": rows} | tried).items()
        for each in outcomes
        if each.row == row
    ]
    note = (
        "The recipes below were compared with the published test accuracy knowingly, to find what may explain the gap; "
        "the rows above keep theirs, which no test pair chose."
    )
    header = ["row", "recipe", "ours", *_COMPARED]
    return ["## Why ours differ", report.remark, note, table(header, shown, "github")] if shown else []


def _curves(report: Report, rows: Sequence[Outcome], folder: Path) -> Iterator[str]:
    finished = {row.row.name: row for row in rows}
    for name, plot in report.plots.items():
        chosen = [finished[row] for row in plot.rows if row in finished]
        if not chosen:
            continue
        file = f"{report.name}_{name}.png"
        figure = curves_figure({row.row.title: row.fit.curves.with_errors() for row in chosen}, plot.panels)
        save(figure, folder / file, sources(row.fit for row in chosen))
        n = " or ".join(map(str, sorted({row.ours.n for row in chosen})))
        title = name.replace("_", " ")
        yield f"![{report.name}: {title}]({file})\n\n*{title.capitalize()}: mean ± std over n = {n} rounds.*"


def _sweep(report: Report, sweep: Sweep, rows: Sequence[Outcome], folder: Path) -> str:
    """The validation accuracy at each value; nothing here looks at test pairs."""
    head = f"## {sweep.title.capitalize()}\n\n"
    fits = {row.value: row.fit for row in rows if row.value is not None}
    if len(fits) < len(sweep.values):
        return f"{head}{len(fits)} of {len(sweep.values)} values are finished."
    judged_by = Metric("val", "accuracy")
    found = {value: fit.summary[judged_by.column] for value, fit in fits.items()}
    best = max(found, key=lambda value: found[value].mean)
    file = f"{report.name}_{sweep.name}.png"
    figure = sweep_figure(found, sweep.title, f"{SPLIT_NAMES[judged_by.split]} {judged_by.title}")
    save(figure, folder / file, sources(fits.values()))
    shown = [[f"{value:g}", mean_and_std(found[value]) + _failed(fit)] for value, fit in fits.items()]
    options = ", ".join(f"`--{option} '{text.replace('{}', 'VALUE')}'`" for option, text in sweep.options.items())
    return (
        f"{head}Config `{sweep.row}`, {options}; judged on validation pairs, after the last epoch. Highest "
        f"mean: {best:g}.\n\n"
        f"{table([sweep.title, judged_by.words], shown, 'github')}\n\n![{sweep.title}]({file})\n\n"
        f"*Mean ± std over the rounds that did not fail, n as in the table.*"
    )


def forest_figure(rows: Sequence[Outcome]) -> Figure:
    """Draw every row of every report, published beside ours: mean and 95 % interval of the mean (Student's t)."""
    figure = Figure(figsize=(9, 1.2 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    both: dict[str, tuple[str, str, float, list[Summary | None]]] = {
        "published (first n)": (COLOURS[1], "s", -0.12, [row.report.sample(row.row) for row in rows]),
        "ours (second n)": (COLOURS[0], "o", 0.12, [row.ours for row in rows]),
    }
    for name, (colour, marker, shift, samples) in both.items():
        known = [(place + shift, sample) for place, sample in enumerate(samples) if sample is not None]
        heights, means = [height for height, _ in known], [sample.mean for _, sample in known]
        halves = [sample.half_width for _, sample in known]
        axes.errorbar(means, heights, xerr=halves, fmt=marker, color=colour, capsize=3, markersize=5, label=name)
    labels = [f"{row.report.name} {row.row.title} (n = {row.report.rounds}; {row.ours.n})" for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("test accuracy (fraction of pairs), mean and 95 % interval;\nbelhadj: best test epoch")
    axes.grid(alpha=0.3, axis="x")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure
