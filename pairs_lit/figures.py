"""Figures for people."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pairs_lit.durable import write_durably
from pairs_lit.results import Curves

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""

_STYLES = ("-", "--", "-.", ":")


def curves_figure(runs: Mapping[str, Curves], panels: Mapping[str, str]) -> Figure:
    """Draw metrics against the epoch, one line a run: the mean over its rounds, with a band of ± one std.

    Args:
        runs: By label, the curves of each run; rounds that failed are left out, and the label says so.
        panels: By metric (``test/accuracy``), the label of its axis, with the unit.
    """
    figure = Figure(figsize=(5 * len(panels), 3.6), layout="constrained")
    for axes, (metric, label) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for place, (name, curves) in enumerate(runs.items()):
            good = ~curves.failed()
            values = curves.values[metric][:, good]
            epochs = np.arange(1, curves.epochs + 1)
            mean, std = values.mean(1), values.std(1, ddof=1)
            colour, style = COLOURS[place % len(COLOURS)], _STYLES[place % len(_STYLES)]
            failed = f", {(~good).sum()} failed" if not good.all() else ""
            axes.plot(epochs, mean, style, color=colour, label=f"{name} (n = {good.sum()}{failed})", linewidth=1.4)
            axes.fill_between(epochs, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure durably, in the format that the file's name ends in."""
    write_durably(path, lambda file: figure.savefig(file, format=path.suffix[1:], dpi=150))
