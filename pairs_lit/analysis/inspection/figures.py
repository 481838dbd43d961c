"""Figures of an inspection: what the rounds get wrong, and how sure, how calibrated and how unanimous they are."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from pairs_lit.analysis.figures import COLOURS, shown_name
from pairs_lit.analysis.inspection.numbers import (
    FEW_PAIRS,
    Agreement,
    Calibration,
    ClassPairs,
    Confusion,
    Counts,
    Distance,
    HardPair,
    Inspection,
    Numbers,
)
from pairs_lit.relation import sign_of
from pairs_lit.runs.metrics import SPLIT_NAMES, Metric
from pairs_lit.runs.tables import Curves

_BLUE, _RED, _GREY = COLOURS[0], COLOURS[3], "0.45"
_COLUMNS = 4
_MOST_WRITTEN = 12  # a heat map of more rows than this has no numbers in its cells
_LONGEST, _SHORT = 14, 2  # letters of a class's name that are shown, and that stand side by side without being turned
_FITS = 36  # letters below a hard pair
_MOST_ROUNDS = 20  # agreement of more rounds than this is drawn as a histogram
_MOST_LINES = 100  # so many rounds are drawn behind a mean
FIGURES = (
    "learning-curves",
    "hardest-pairs",
    "digit-confusion",
    "accuracy-by-distance",
    "accuracy-by-classes",
    "calibration",
    "agreement",
)
"""The names of all figures."""


def inspection_figures(found: Inspection) -> dict[str, Figure]:
    """Draw all figures, by name; those that a run cannot have are left out."""
    figures = {"learning-curves": learning_curves(found.curves, found.failed)}
    if found.hardest:
        figures["hardest-pairs"] = hardest_pairs(found.hardest, found.images, found.relation, found.class_names)
    if found.confusion is not None:
        figures["digit-confusion"] = digit_confusion(found.confusion, found.class_names)
    figures["accuracy-by-distance"] = accuracy_by_distance(found.distances, has_names=bool(found.class_names))
    figures["accuracy-by-classes"] = accuracy_by_classes(found.class_pairs, found.class_names)
    figures["calibration"] = reliability(found.calibration, found.relation)
    if found.agreement is not None:
        figures["agreement"] = agreement_of_rounds(found.agreement, found.said.seeds)
    for name, figure in figures.items():
        basis = found.rounds + f", data: {found.source}" if name == "learning-curves" else found.basis
        figure.suptitle(f"{found.label}: {basis}".replace("$", r"\$"), size=9, color=_GREY, wrap=True)
    return figures


_CELL = (2.6, 2.15)  # inches of a hard pair, and of what stands around all of them:
_HEAD, _FOOT = 0.3, 0.55


def hardest_pairs(pairs: Sequence[HardPair], images: Numbers, relation: str, names: Sequence[str] = ()) -> Figure:
    """Draw pairs of images (H, 2, S, S), with the truth above and P(relation) of every round, a dot each, below."""
    columns = min(_COLUMNS, len(pairs))
    rows = -(-len(pairs) // columns)
    width, height = _CELL[0] * max(columns, 2), _HEAD + _FOOT + _CELL[1] * rows
    figure = Figure(figsize=(width, height))
    for place, (pair, both) in enumerate(zip(pairs, images, strict=True)):
        row, column = divmod(place, columns)
        left, top = _CELL[0] * (column + 0.12), height - _HEAD - _CELL[1] * row
        above = figure.add_axes((left / width, (top - 1.35) / height, 0.76 * _CELL[0] / width, 0.95 / height))
        below = figure.add_axes((left / width, (top - 1.9) / height, 0.76 * _CELL[0] / width, 0.25 / height))
        _draw_pair(above, pair, both, relation, names)
        _draw_answers(below, pair)
    said = f"P(first {sign_of(relation)} second), a dot a round: blue right, orange wrong"
    figure.text(0.5, 0.15 / height, said, ha="center", size=9)
    return figure


def _draw_pair(axes: Axes, pair: HardPair, images: Numbers, relation: str, names: Sequence[str]) -> None:
    gap = np.full((images.shape[-2], max(1, images.shape[-1] // 14)), 1.0)
    axes.imshow(np.concatenate([images[0], gap, images[1]], 1), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[], frame_on=False)
    n, truth = len(pair.probability), "yes" if pair.holds else "no"
    first, second = (shown_name(names[each], _LONGEST) if names else str(each) for each in pair.digits)
    separator = "\n" if len(first + second) > 8 else " "
    title = f"{first} {sign_of(relation)} {second}: {truth};{separator}wrong in {pair.wrong} of {n}"
    axes.set_title(title, size=9 if separator == " " else 7.5)
    if pair.read is not None:
        short = [shown_name(name, _LONGEST) for name in names]
        read = [readings(each, short) for each in pair.read]
        axes.set_xlabel(("  |  " if len("".join(read)) <= _FITS else "\n").join(read), size=6.5, color="0.25")


def readings(counts: Counts, names: Sequence[str] = ()) -> str:
    """Return which classes were read how often, the commonest first, such as ``9 (7×), 4 (3×)``; ``…`` for more."""
    order = [place for place in np.argsort(-counts, kind="stable").tolist() if counts[place]]
    shown = [f"{names[place] if names else place} ({counts[place]}×)" for place in order[:2]]
    return ", ".join(shown) + (" …" if len(order) > 2 else "")


def _draw_answers(axes: Axes, pair: HardPair) -> None:
    right = pair.right
    heights = 0.25 * np.cos(2.4 * np.arange(len(right)))  # spread, and the same each time
    axes.axvline(0.5, color="0.7", linewidth=0.8)
    size = 4 if len(right) <= _MOST_ROUNDS else 2
    for own, colour in ((right, _BLUE), (~right, _RED)):
        axes.plot(pair.probability[own], heights[own], "o", color=colour, alpha=0.6, markersize=size, clip_on=False)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.6, 0.6), yticks=[], xticks=[0, 0.5, 1])
    axes.set_xticklabels(["0", "", "1"], size=7)
    axes.spines[["left", "right", "top"]].set_visible(False)


def digit_confusion(found: Confusion, names: Sequence[str] = ()) -> Figure:
    """Draw how often a class (row) is read as each class (column); colours show the errors only."""
    shares, size = found.shares, len(found.counts)
    errors = np.where(np.eye(size, dtype=bool), np.nan, shares)
    texts = [
        ["·" if not found.counts[i, j] else f"{100 * shares[i, j]:.1f}\n{found.counts[i, j]}" for j in range(size)]
        for i in range(size)
    ]
    figure, axes = _square(size)
    highest = max(100 * float(errors[np.isfinite(errors)].max(initial=0)), 1)
    shades = _heat_map(axes, 100 * errors, texts, "Oranges", 0, highest, "true", "read")
    _name_classes(axes, names)
    figure.colorbar(shades, label="read wrongly as (% of the true class)", shrink=0.8)
    return figure


def _square(size: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 6.2) if size > 5 else (5.4, 4.4), layout="constrained")
    return figure, figure.subplots()


def _heat_map(
    axes: Axes,
    values: Numbers,
    texts: Sequence[Sequence[str]],
    colours: str,
    low: float,
    high: float,
    rows: str,
    columns: str,
) -> AxesImage:
    """Draw a square of values, NaN in light grey, with a text in each cell where there are not too many."""
    size = len(values)
    axes.set_facecolor("0.93")
    shades = axes.imshow(values, cmap=colours, vmin=low, vmax=high)
    if size <= _MOST_WRITTEN:
        for i in range(size):
            for j in range(size):
                axes.text(j, i, texts[i][j], ha="center", va="center", size=7, color=_ink(shades, values[i, j]))
    step = 1 if size <= 2 * _MOST_WRITTEN else -(-size // _MOST_WRITTEN)
    axes.set(xticks=range(0, size, step), yticks=range(0, size, step), xlabel=columns, ylabel=rows)
    return shades


def _name_classes(axes: Axes, names: Sequence[str]) -> None:
    """Write the names of classes at the marks of both axes; numbers stay where classes have no names."""
    if not names:
        return
    for axis in (axes.xaxis, axes.yaxis):
        places = [round(place) for place in axis.get_ticklocs()]
        axis.set_ticks(places, [shown_name(names[place], _LONGEST) for place in places])
    if max(map(len, names)) > _SHORT:
        axes.tick_params("x", rotation=90)


def _ink(shades: AxesImage, value: float) -> str:
    """Return black or white, whichever can be read on a value's colour."""
    if np.isnan(value):
        return "black"
    red, green, blue = to_rgb(shades.to_rgba(np.array([value]))[0])
    return "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"


def accuracy_by_distance(found: Sequence[Distance], *, has_names: bool = False) -> Figure:
    """Draw the mean accuracy over rounds by distance of the classes, with its 95 % interval and the number of pairs."""
    figure = Figure(figsize=(max(5.5, 2 + 0.45 * len(found)), 3.6), layout="constrained")
    axes = figure.subplots()
    places = [each.distance for each in found]
    means = np.array([each.accuracy.mean for each in found])
    halves = np.nan_to_num([each.accuracy.half_width for each in found])
    axes.errorbar(places, means, halves, fmt="o-", color=_BLUE, capsize=3, linewidth=1, markersize=4)
    step = 1 if len(found) <= 2 * _MOST_WRITTEN else -(-len(found) // _MOST_WRITTEN)
    labels = [f"{each.distance}\n({each.pairs})" for each in found[::step]]
    axes.set_xticks(places[::step], labels)
    what = "|first − second|" if not has_names else "classes apart in their order"
    axes.set(xlabel=f"{what} (number of pairs)", ylabel=Metric("test", "accuracy").title)
    axes.grid(alpha=0.3)
    return figure


def accuracy_by_classes(found: ClassPairs, names: Sequence[str] = ()) -> Figure:
    """Draw the accuracy by the classes of both images; cells that rest on few pairs are hatched."""
    size = len(found.pairs)
    texts = [
        [
            "" if not found.pairs[i, j] else f"{100 * found.accuracy[i, j]:.0f}\n({found.pairs[i, j]})"
            for j in range(size)
        ]
        for i in range(size)
    ]
    figure, axes = _square(size)
    low = 100 * float(np.nanmin(found.accuracy))
    shades = _heat_map(axes, 100 * found.accuracy, texts, "Oranges_r", min(low, 99), 100, "first", "second")
    _name_classes(axes, names)
    few = np.argwhere((found.pairs > 0) & (found.pairs < FEW_PAIRS))
    for row, column in few.tolist():
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="////", edgecolor="0.7", linewidth=0, zorder=1.5))
    if len(few):
        axes.set_xlabel(f"second (hatched: fewer than {FEW_PAIRS} pairs)")
    figure.colorbar(shades, label="accuracy (% of pairs)", shrink=0.8)
    return figure


def reliability(found: Calibration, relation: str) -> Figure:
    """Draw the share of pairs for which the relation holds against P(relation), and how often each P is said."""
    figure = Figure(figsize=(5.2, 5.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
    probability, share, counts = found.pooled
    top.plot([0, 1], [0, 1], ":", color=_GREY, linewidth=1, label="perfectly calibrated")
    some, n = counts > 0, len(found.counts)
    bars = np.nan_to_num(found.half_widths[some])
    what = f"{n} rounds together, 95 % interval" if n > 1 else "the round"
    top.errorbar(
        probability[some], share[some], bars, fmt="o-", color=_BLUE, markersize=5, linewidth=1, capsize=2, label=what
    )
    sign = sign_of(relation)
    top.set(ylabel=f"share of pairs with first {sign} second", ylim=(-0.03, 1.03), xlim=(-0.03, 1.03))
    top.legend(fontsize=8, loc="upper left")
    edges = np.linspace(0, 1, len(counts) + 1)
    bottom.stairs(100 * counts / counts.sum(), edges, fill=True, color=_BLUE, alpha=0.5)
    bottom.set(xlabel=f"P(first {sign} second)", ylabel="answers (%)")
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    return figure


def agreement_of_rounds(found: Agreement, seeds: Sequence[int]) -> Figure:
    """Draw the share of pairs that two rounds answer alike: a heat map of few rounds, a histogram of many."""
    size = found.rounds
    if size > _MOST_ROUNDS:
        figure = Figure(figsize=(5.5, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.hist(100 * found.shares[np.triu_indices(size, 1)], bins=30, color=_BLUE, alpha=0.6)
        axes.set(xlabel="pairs answered alike (%)", ylabel="pairs of rounds")
        axes.grid(alpha=0.3)
        return figure
    shares = 100 * np.where(np.eye(size, dtype=bool), np.nan, found.shares)
    texts = [["" if i == j else f"{shares[i, j]:.1f}" for j in range(size)] for i in range(size)]
    figure, axes = _square(size)
    low, high = 100 * found.share.min, 100 * found.share.max
    shades = _heat_map(axes, shares, texts, "Blues", low - 0.5, high + 0.5, "seed", "seed")
    axes.set_xticks(range(size), list(map(str, seeds[:size])), rotation=0 if size <= _MOST_WRITTEN else 90)
    axes.set_yticks(range(size), list(map(str, seeds[:size])))
    figure.colorbar(shades, label="pairs answered alike (%)", shrink=0.8)
    return figure


def learning_curves(curves: Curves, failed: Sequence[int]) -> Figure:
    """Draw accuracy and loss by epoch, a column a split: each round thin, their mean thick.

    Rounds that failed are dotted as far as they have figures, end in a cross, and are not in the mean.
    """
    shown = [Metric(split, name) for name in ("accuracy", "loss") for split in SPLIT_NAMES]
    measured = [metric for metric in shown if metric.tag in curves.values]
    rows = list(dict.fromkeys(metric.title for metric in measured))
    columns = [split for split in SPLIT_NAMES if any(metric.split == split for metric in measured)]
    figure = Figure(figsize=(3.6 * len(columns), 0.4 + 2.7 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey="row")
    for axes in grid.flat:
        axes.grid(alpha=0.3)
    for metric in measured:
        _draw_curves(grid[rows.index(metric.title), columns.index(metric.split)], curves, metric.tag, failed)
    for axes, title in zip(grid[:, 0], rows, strict=True):
        axes.set_ylabel(title)
    for axes, split in zip(grid[0], columns, strict=True):
        axes.set_title(SPLIT_NAMES[split], size=10)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if curves.epochs == 1:
            axes.set_xlim(0.5, 1.5)
    grid[0, 0].legend(fontsize=8)
    return figure


def _draw_curves(axes: Axes, curves: Curves, name: str, failed: Sequence[int]) -> None:
    values, epochs = curves.values[name], np.arange(1, curves.epochs + 1)
    bad = np.isin(curves.seeds, failed)
    good, mark = values[:, ~bad], "o" if curves.epochs == 1 else ""
    n = good.shape[1]
    lines = axes.plot(
        epochs, good[:, :_MOST_LINES], color=_BLUE, alpha=0.25 if n > 1 else 1, linewidth=0.7, marker=mark
    )
    if n:
        each = "each of" if n <= _MOST_LINES else f"{_MOST_LINES} of"
        lines[0].set_label(f"{each} {n} rounds" if n > 1 else "the round")
    if n > 1:
        axes.plot(epochs, good.mean(1), color="black", linewidth=1.4, marker=mark, label=f"mean (n = {n})")
    for place, column in enumerate(np.flatnonzero(bad).tolist()):
        own, label = values[:, column], f"failed ({bad.sum()})" if place == 0 else None
        end = np.flatnonzero(np.isfinite(own))[-1:].tolist()
        # what diverges must not flatten the others
        axes.plot(epochs, own, ":x", color=_RED, linewidth=1, label=label, markevery=end, scaley=not n)
