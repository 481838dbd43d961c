"""The pages of a reproduction: for each report a Markdown page, a CSV and figures; one forest plot over all."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from tabulate import tabulate

from pairs_lit.analysis.figures import COLOURS, curves_figure, save, sweep_figure
from pairs_lit.analysis.tables import mean_and_std
from pairs_lit.reproduction.answers import page
from pairs_lit.reproduction.claims import CLAIMS, Claim
from pairs_lit.reproduction.jobs import Conditions
from pairs_lit.reproduction.outcomes import Outcome, of_recipe, outcomes, sources
from pairs_lit.reproduction.published import ALONE, PUBLISHED, REPORTS, Report, Spread, Sweep
from pairs_lit.runs.run import Run
from pairs_lit.runs.tables import write_csv
from pairs_lit.runs.writing import clear_leftovers, write_text_durably
from pairs_lit.statistics import Difference, Summary, half_width

_HEADER = ["row", "parameters", "published", "ours", "ours − published", "95 % interval", "contains 0", "time"]
_CSV = ["report", "row", "title", "parameters", "column", "published_mean", "published_std", "published_n"]
_CSV += ["n", "failed", "mean", "std", "median", "min", "max", "final_mean", "final_std", "best_mean", "best_std"]
_CSV += ["difference", "low", "high", "p", "contains_zero", "commit", "seconds"]


_KNOWINGLY = (
    "The recipes below were compared with the published test accuracy knowingly, to find what may explain the gap; "
    "the rows above keep theirs, which no test pair chose."
)


def write_pages(reports: Sequence[Report], conditions: Conditions, folder: Path) -> list[Path]:
    """Write the pages of some reports, and the forest plot of all rows that are finished.

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
    fits = dict(_fits(found))
    ready = [claim for claim in CLAIMS if _sides(claim) <= set(fits)]
    if not ready:
        return []
    text = page(ready, fits, sources(fits.values()))
    write_text_durably(folder / "README.md", text)
    return [folder / "README.md"]


def _fits(found: Mapping[str, Sequence[Outcome]]) -> Iterator[tuple[tuple[str, str, str], Run]]:
    """Yield every finished fit of two or more rounds, by report, row and variant."""
    for name, rows in found.items():
        for variant in ("", *(variant.name for variant in REPORTS[name].variants)):
            yield from (((name, row.row.name, variant), row.fit) for row in of_recipe(rows, variant) if row.ours.n > 1)


def _sides(claim: Claim) -> set[tuple[str, str, str]]:
    return {side.fit for each in claim.contrasts for side in (each.first, each.second)}


def _write_page(report: Report, found: Sequence[Outcome], folder: Path) -> Path:
    rows = of_recipe(found, "")
    write_csv(folder / f"{report.name}.csv", _CSV, map(_csv_row, rows))
    parts = [f"# {report.name}", _conditions(report, rows), _table(report, rows)]
    parts += _details(rows)
    parts += _times(rows, {each.row.name: each.fit for each in of_recipe(found, ALONE)})
    parts += _variants(report, rows, found)
    parts += list(_curves(report, rows, folder))
    for sweep in report.sweeps:
        fits = {each.value: each.fit for each in of_recipe(found, sweep.name) if each.value is not None}
        parts.append(_sweep(sweep, fits, folder, report.name))
    file = folder / f"{report.name}.md"
    write_text_durably(file, "\n\n".join(parts) + "\n")
    return file


def _conditions(report: Report, rows: Sequence[Outcome]) -> str:
    seeds = {(row.fit.rounds[0].seed, row.fit.rounds[-1].seed) for row in rows}
    shown = "; ".join(f"{first} to {last}" for first, last in sorted(seeds))
    return (
        f"Made by `pairs-lit reproduce {report.name}`. Accuracies are fractions of test pairs, mean ± std (ddof 1) "
        f"over rounds; seeds {shown}. {sources(row.fit for row in rows)} Intervals: Welch's, from both n."
    )


def _table(report: Report, rows: Sequence[Outcome]) -> str:
    best = report.column == "best_test_accuracy"
    header = [*_HEADER[:3], *(["ours, best test epoch", "ours, final epoch"] if best else ["ours, final epoch"])]
    table = tabulate([_row(row) for row in rows], [*header, *_HEADER[4:]], tablefmt="github", disable_numparse=True)
    if not best:
        return table
    return f"{table}\n\nThe report's figure is the *best test epoch* of each round, which selects on the test set."


def _row(outcome: Outcome) -> list[str]:
    row, fit = outcome.row, outcome.fit
    columns = dict.fromkeys([outcome.report.column, "test_accuracy"])
    ours = [mean_and_std(fit.summary[column]) for column in columns]
    ours[0] += _failed(fit)
    published = outcome.report.sample(row)
    return [
        row.title,
        f"{fit.facts.parameters:,}",
        "–" if published is None else f"{published.mean:.4f} ± {published.std:.4f} (n = {published.n})",
        *ours,
        *_difference(outcome.difference),
        f"{fit.facts.seconds:.0f} s",
    ]


def _failed(fit: Run) -> str:
    return f", {len(fit.failed)} failed" if fit.failed else ""


def _difference(difference: Difference | None) -> list[str]:
    if difference is None:
        return ["–"] * 3
    interval = f"{difference.low:+.4f} to {difference.high:+.4f}"
    return [f"{difference.estimate:+.4f}", interval, "yes" if difference.contains_zero else "no"]


def _csv_row(outcome: Outcome) -> tuple[object, ...]:
    row, ours, difference = outcome.row, outcome.ours, outcome.difference
    final, best = (outcome.fit.summary[column] for column in ("test_accuracy", "best_test_accuracy"))
    return (
        *(outcome.report.name, row.name, row.title, outcome.fit.facts.parameters),
        *(outcome.report.column, row.mean, row.std, outcome.report.rounds),
        *(ours.n, len(outcome.fit.failed), ours.mean, ours.std, ours.median, ours.min, ours.max),
        *(final.mean, final.std, best.mean, best.std),
        *_csv_difference(difference),
        *("; ".join(outcome.fit.facts.commits), round(outcome.fit.facts.seconds, 1)),
    )


def _csv_difference(difference: Difference | None) -> tuple[object, ...]:
    if difference is None:
        return ("",) * 5
    return difference.estimate, difference.low, difference.high, difference.p, difference.contains_zero


def _details(rows: Sequence[Outcome]) -> list[str]:
    """Mean, max, median and std on train and test, where the report gives them."""
    shown: list[list[str]] = []
    for outcome in rows:
        for split, spread in (("train", outcome.row.train), ("test", outcome.row.test)):
            if spread is None:
                continue
            ours = outcome.fit.summary[f"{split}_accuracy"]
            shown.append([outcome.row.title, split, f"published (n = {outcome.report.rounds})", *_spread(spread)])
            shown.append([outcome.row.title, split, f"ours (n = {ours.n})", *_spread(ours)])
    if not shown:
        return []
    header = ["row", "pairs", "", "mean", "max", "median", "std"]
    return ["## Spread over rounds", tabulate(shown, header, tablefmt="github", disable_numparse=True)]


def _spread(spread: Spread | Summary) -> list[str]:
    return [f"{value:.4f}" for value in (spread.mean, spread.max, spread.median, spread.std)]


def _times(rows: Sequence[Outcome], single: Mapping[str, Run]) -> list[str]:
    """Total, per-round and normalised time, one round at a time and in the stack, where the report gives times."""
    timed = [row for row in rows if row.row.minutes is not None and row.row.name in single]
    if not timed:
        return []
    first = timed[0]
    shown = [_time_row(row, single[row.row.name], first, single[first.row.name]) for row in timed]
    header = ["row", "published, all rounds", "%", "stack, all rounds", "stack, a round", "%"]
    header += ["one at a time, a round", "%"]
    note = (
        "Published: 100 rounds on the authors' machine. Ours: with evaluation after each epoch and all files; "
        f"one at a time: {len(single[first.row.name].rounds)} rounds, stack size 1. Per cent of the first row."
    )
    return ["## Times", tabulate(shown, header, tablefmt="github", disable_numparse=True), note]


def _time_row(row: Outcome, single: Run, first: Outcome, first_single: Run) -> list[str]:
    stack, one = (fit.facts.seconds / len(fit.rounds) for fit in (row.fit, single))
    base, base_one = (fit.facts.seconds / len(fit.rounds) for fit in (first.fit, first_single))
    minutes, base_minutes = row.row.minutes or 0.0, first.row.minutes or 1.0
    return [
        row.row.title,
        f"{minutes:.2f} min",
        f"{100 * minutes / base_minutes:.1f}",
        f"{row.fit.facts.seconds / 60:.2f} min",
        f"{stack:.2f} s",
        f"{100 * stack / base:.1f}",
        f"{one:.2f} s",
        f"{100 * one / base_one:.1f}",
    ]


def _variants(report: Report, rows: Sequence[Outcome], found: Sequence[Outcome]) -> list[str]:
    """Other recipes for rows that differ from the published ones, each below the recipe that the row has."""
    tried = {variant.title: of_recipe(found, variant.name) for variant in report.variants}
    doubtful = {outcome.row.name for outcomes in tried.values() for outcome in outcomes}
    if not doubtful:
        return []
    recipes = {"as above": rows} | tried
    shown = [
        _variant_row(recipe, outcome)
        for row in report.rows
        if row.name in doubtful
        for recipe, outcomes in recipes.items()
        for outcome in outcomes
        if outcome.row == row
    ]
    header = ["row", "recipe", "ours", *_HEADER[4:7]]
    table = tabulate(shown, header, tablefmt="github", disable_numparse=True)
    return ["## Why ours differ", report.remark, _KNOWINGLY, table]


def _variant_row(recipe: str, outcome: Outcome) -> list[str]:
    ours = mean_and_std(outcome.ours) + _failed(outcome.fit)
    return [outcome.row.title, recipe, ours, *_difference(outcome.difference)]


def _curves(report: Report, rows: Sequence[Outcome], folder: Path) -> Iterator[str]:
    finished = {row.row.name: row for row in rows}
    for name, plot in report.plots.items():
        chosen = [finished[row] for row in plot.rows if row in finished]
        if not chosen:
            continue
        file = f"{report.name}_{name}.png"
        figure = curves_figure({row.row.title: row.fit.curves.with_errors() for row in chosen}, plot.panels)
        save(figure, folder / file, sources(row.fit for row in chosen))
        counts = sorted({row.ours.n for row in chosen})
        n = " or ".join(map(str, counts))
        title = name.replace("_", " ")
        yield f"![{report.name}: {title}]({file})\n\n*{title.capitalize()}: mean ± std over n = {n} rounds.*"


def _sweep(sweep: Sweep, fits: Mapping[float, Run], folder: Path, report: str) -> str:
    """The validation accuracy at each value; nothing here looks at test pairs."""
    if len(fits) < len(sweep.values):
        return f"## {sweep.title.capitalize()}\n\n{len(fits)} of {len(sweep.values)} values are finished."
    found = {value: fit.summary["val_accuracy"] for value, fit in fits.items()}
    best = max(found, key=lambda value: found[value].mean)
    file = f"{report}_{sweep.name}.png"
    figure = sweep_figure(found, sweep.title, "validation accuracy (fraction of pairs)")
    save(figure, folder / file, sources(fits.values()))
    table = tabulate(
        [[f"{value:g}", mean_and_std(found[value]) + _failed(fit)] for value, fit in fits.items()],
        [sweep.title, "validation accuracy"],
        tablefmt="github",
        disable_numparse=True,
    )
    options = ", ".join(f"`--{option} '{text.replace('{}', 'VALUE')}'`" for option, text in sweep.options.items())
    return (
        f"## {sweep.title.capitalize()}\n\nConfig `{sweep.row}`, {options}; judged on validation pairs, "
        f"after the last epoch. Best: {best:g}.\n\n{table}\n\n![{sweep.title}]({file})\n\n"
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
        halves = [half_width(sample) for _, sample in known]
        axes.errorbar(means, heights, xerr=halves, fmt=marker, color=colour, capsize=3, markersize=5, label=name)
    labels = [f"{row.report.name} {row.row.title} (n = {row.report.rounds}; {row.ours.n})" for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("test accuracy (fraction of pairs), mean and 95 % interval;\nbelhadj: best test epoch")
    axes.grid(alpha=0.3, axis="x")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure
