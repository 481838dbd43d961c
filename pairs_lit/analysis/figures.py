"""Figures for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pairs_lit.runs.atomic_write import write_durably
from pairs_lit.runs.tables import Curves
from pairs_lit.statistics import Summary, summarise

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""

_STYLES = ("-", "--", "-.", ":")


def shown_name(name: str, most: int) -> str:
    """Return a name for a figure: cut after so many letters, and no formula."""
    short = name if len(name) <= most else f"{name[: most - 1]}…"
    return short.replace("$", r"\$")


def curves_figure(runs: Mapping[str, Curves], panels: Mapping[str, str]) -> Figure:
    """Draw metrics against the epoch, one line a run: the mean over its rounds, with a band of ± one std.

    Args:
        runs: By label, the curves of each run; rounds that failed are left out, and the label says so. A run without
            a metric is left out of its panel, a panel without runs is left out.
        panels: By metric (``test/accuracy``), the label of its axis, with the unit.
    """
    known = {metric: label for metric, label in panels.items() if any(metric in run.values for run in runs.values())}
    figure = Figure(figsize=(5 * len(known), 3.6), layout="constrained")
    for axes, (metric, label) in zip(figure.subplots(1, len(known), squeeze=False)[0], known.items(), strict=True):
        for place, (name, curves) in enumerate(runs.items()):
            if metric not in curves.values or curves.failed().all():
                continue
            good = ~curves.failed()
            values, epochs = curves.values[metric][:, good], np.arange(1, curves.epochs + 1)
            mean = values.mean(1)
            std = values.std(1, ddof=1) if good.sum() > 1 else np.zeros_like(mean)  # one round: no band
            colour, style = COLOURS[place % len(COLOURS)], _STYLES[place % len(_STYLES)]
            failed = f", {(~good).sum()} failed" if not good.all() else ""
            axes.plot(epochs, mean, style, color=colour, label=f"{name} (n = {good.sum()}{failed})", linewidth=1.4)
            axes.fill_between(epochs, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def rounds_figure(values: Mapping[str, Sequence[float]], label: str) -> Figure:
    """Draw every round's value of a metric as a point, a row a run, with the mean and its 95 % interval."""
    figure = Figure(figsize=(7, 1 + 0.55 * len(values)), layout="constrained")
    axes = figure.subplots()
    plain = {name.replace("$", r"\$"): points for name, points in values.items()}  # no formulas in a run's name
    for row, (name, points) in enumerate(plain.items()):
        colour, summary = COLOURS[row % len(COLOURS)], summarise(points)
        heights = row + 0.12 * np.cos(2.4 * np.arange(len(points)))  # spread, and the same each time
        axes.plot(points, heights, "o", color=colour, alpha=0.5, markersize=4, label=f"{name} (n = {len(points)})")
        axes.errorbar(summary.mean, row + 0.32, xerr=summary.half_width, fmt="D", color=colour, capsize=4)
    axes.set_yticks(range(len(values)), [f"{name}\nn = {len(points)}" for name, points in plain.items()])
    axes.set(ylim=(len(values) - 0.4, -0.6), xlabel=f"{label}; diamonds: mean and 95 % interval")
    axes.grid(alpha=0.3, axis="x")
    return figure


def sweep_figure(found: Mapping[float, Summary], x_label: str, y_label: str) -> Figure:
    """Draw mean ± std against the values of an option, evenly spaced."""
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    places = range(len(found))
    means, stds = [each.mean for each in found.values()], [each.std for each in found.values()]
    axes.errorbar(places, means, stds, fmt="o-", color=COLOURS[0], capsize=4)
    axes.set_xticks(places, [f"{value:g}" for value in found])
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    return figure


def save(figure: Figure, path: Path, note: str = "") -> None:
    """Write a figure durably, in the format that the file's name ends in; a PNG file keeps the note on its origin."""
    metadata = {"Description": note} if note and path.suffix == ".png" else None
    write_durably(path, lambda file: figure.savefig(file, format=path.suffix[1:], dpi=150, metadata=metadata))
