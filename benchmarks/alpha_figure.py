"""Accuracy against the weight α, for ``docs/which-alpha.md``: ``python benchmarks/alpha_figure.py``.

Draws the page's own table of training pairs and α, and writes ``docs/which-alpha.png``. Nothing is trained.
"""

import re
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from figure_style import INK, apply_style, create_figure
from pairs_lit.analysis.figures import save_figure

PAGE = Path(__file__).parent.parent / "docs" / "which-alpha.md"
COLOURS = ("#E69F00", "#009E73", "#2B8CC4", "#CC79A7")


def read_table(text: str) -> tuple[list[float], dict[str, list[float]]]:
    """Return the values of α, and the mean accuracies by number of training pairs."""
    lines = text[text.index("| training pairs |") :].splitlines()
    cells = [re.findall(r"[^| ][^|]*[^| ]|[^| ]", line) for line in lines]
    alphas = [float(value) for value in cells[0][1:]]
    return alphas, {row[0]: [float(value) for value in row[1:]] for row in cells[2:6]}


def draw(alphas: list[float], accuracies: dict[str, list[float]]) -> Figure:
    """Draw one line for each number of training pairs."""
    figure = create_figure(3.4)
    axes = figure.subplots()
    for (pairs, values), colour in zip(accuracies.items(), COLOURS, strict=True):
        axes.plot(alphas, values, "o-", color=colour, markersize=4)
        below = (alphas[-1], min(values[-3:]))
        axes.annotate(f"{pairs} pairs", below, (0, -13), textcoords="offset points", ha="right", color=colour, size=9)
    axes.set(xscale="log", xlabel="weight α of the auxiliary loss", ylabel="validation accuracy, mean of 20 rounds")
    axes.set_xticks(alphas, [f"{alpha:g}" for alpha in alphas])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(y=0.1)
    axes.set_title("FC_aux on MNIST", size=10, color=INK)
    apply_style(axes)
    return figure


def main() -> None:
    """Draw the figure and write it."""
    save_figure(
        draw(*read_table(PAGE.read_text(encoding="utf-8"))), PAGE.with_suffix(".png"), "benchmarks/alpha_figure.py"
    )


if __name__ == "__main__":
    main()
