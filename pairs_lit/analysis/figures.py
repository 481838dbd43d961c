"""Matplotlib figures of runs and sweeps."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pairs_lit.runs.atomic_write import write_atomically
from pairs_lit.runs.tables import Curves
from pairs_lit.statistics import Summary, summarise

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
"""Okabe and Ito's palette, which colour-blind readers can distinguish."""

_LINE_STYLES = ("-", "--", "-.", ":")


def shorten_name(name: str, most: int) -> str:
    """Return the name cut to at most this many letters, with dollar signs escaped, which would begin a formula."""
    short = name if len(name) <= most else f"{name[: most - 1]}…"
    return short.replace("$", r"\$")


class DisplayedFigure(Figure):
    """A figure that a notebook displays even if pyplot, which would register a display of figures, is not imported."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def draw_curves(runs: Mapping[str, Curves], panels: Mapping[str, str]) -> Figure:
    """Draw metrics by epoch, one panel per metric and one line per run: the mean over rounds ± one standard deviation.

    Failed rounds are left out and counted in the label. A panel shows only the runs that have its metric, and is
    omitted if no run has it.

    Args:
        runs: The curves of each run, by label.
        panels: The axis label with its unit, by metric (such as ``test/accuracy``).
    """
    known = {metric: label for metric, label in panels.items() if any(metric in run.values for run in runs.values())}
    figure = DisplayedFigure(figsize=(5 * len(known), 3.6), layout="constrained")
    for axes, (metric, label) in zip(figure.subplots(1, len(known), squeeze=False)[0], known.items(), strict=True):
        for index, (name, curves) in enumerate(runs.items()):
            if metric not in curves.values or curves.find_failed_rounds().all():
                continue
            is_ok = ~curves.find_failed_rounds()
            values, epochs = curves.values[metric][:, is_ok], np.arange(1, curves.epochs + 1)
            mean = values.mean(1)
            std = values.std(1, ddof=1) if is_ok.sum() > 1 else np.zeros_like(mean)  # a single round gets no band
            colour, style = COLOURS[index % len(COLOURS)], _LINE_STYLES[index % len(_LINE_STYLES)]
            failed = f", {(~is_ok).sum()} failed" if not is_ok.all() else ""
            marker = "o" if curves.epochs == 1 else ""  # a line of one point would be invisible
            indent = " " if name.startswith("_") else ""  # matplotlib leaves names with _ out of the legend
            label_of_run = f"{indent}{name} (n = {is_ok.sum()}{failed})"
            axes.plot(epochs, mean, style, color=colour, label=label_of_run, linewidth=1.4, marker=marker)
            axes.fill_between(epochs, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(alpha=0.3)
        if axes.get_lines():
            axes.legend(fontsize=8)
    return figure


def draw_rounds(values: Mapping[str, Sequence[float]], label: str) -> Figure:
    """Draw the metric of each round as a point, one row per run, with the mean and its 95 % interval."""
    figure = DisplayedFigure(figsize=(7, 1 + 0.55 * len(values)), layout="constrained")
    axes = figure.subplots()
    escaped = {name.replace("$", r"\$"): points for name, points in values.items()}  # $ would begin a formula
    for row, (name, points) in enumerate(escaped.items()):
        colour, summary = COLOURS[row % len(COLOURS)], summarise(points)
        heights = row + 0.12 * np.cos(2.4 * np.arange(len(points)))  # vertical jitter without random numbers
        axes.plot(points, heights, "o", color=colour, alpha=0.5, markersize=4, label=f"{name} (n = {len(points)})")
        axes.errorbar(summary.mean, row + 0.32, xerr=summary.half_width, fmt="D", color=colour, capsize=4)
    axes.set_yticks(range(len(values)), [f"{name}\nn = {len(points)}" for name, points in escaped.items()])
    axes.set(ylim=(len(values) - 0.4, -0.6), xlabel=f"{label}; diamonds: mean and 95 % interval")
    axes.grid(alpha=0.3, axis="x")
    return figure


def draw_option_means(summaries: Mapping[float, Summary], x_label: str, y_label: str) -> Figure:
    """Draw the mean ± one standard deviation for each value of an option; the values are evenly spaced."""
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    positions = range(len(summaries))
    means, stds = [summary.mean for summary in summaries.values()], [summary.std for summary in summaries.values()]
    axes.errorbar(positions, means, stds, fmt="o-", color=COLOURS[0], capsize=4)
    axes.set_xticks(positions, [f"{value:g}" for value in summaries])
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    return figure


def save_figure(figure: Figure, path: Path, note: str = "") -> None:
    """Write a figure atomically in the format of the file's suffix; a PNG file stores the note as its description."""
    kind = path.suffix[1:].lower()
    metadata = {"Description": note} if note and kind == "png" else None
    write_atomically(path, lambda file: figure.savefig(file, format=kind, dpi=150, metadata=metadata))
