"""Figures of an inspection: hardest pairs, confusion, accuracy, calibration, agreement and learning curves."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from pairs_lit.analysis.figures import COLOURS, shorten_name
from pairs_lit.analysis.inspection.numbers import (
    MIN_PAIRS,
    Agreement,
    Calibration,
    ClassPairAccuracy,
    Confusion,
    DistanceAccuracy,
    FloatArray,
    HardPair,
    Inspection,
    IntArray,
)
from pairs_lit.relation import get_sign
from pairs_lit.runs.metrics import SPLIT_NAMES, Metric
from pairs_lit.runs.tables import Curves

_BLUE, _RED, _GREY = COLOURS[0], COLOURS[3], "0.45"
_MAX_COLUMNS = 4
_MAX_ROWS_WITH_TEXT = 12  # heat maps with more rows than this have no numbers in their cells
_MAX_NAME_LENGTH = 14  # class names are cut to this many letters
_MAX_HORIZONTAL_LENGTH = 2  # longer class names are written vertically on the x axis
_MAX_LINE_LENGTH = 36  # letters that fit into one line below a hard pair
_MAX_HEAT_MAP_ROUNDS = 20  # the agreement of more rounds than this is drawn as a histogram
_MAX_CURVES = 100  # learning curves of at most this many rounds are drawn behind their mean
FIGURE_NAMES = (
    "learning-curves",
    "hardest-pairs",
    "digit-confusion",
    "accuracy-by-distance",
    "accuracy-by-classes",
    "calibration",
    "agreement",
)
"""The names of all figures."""


def draw_inspection(run: Inspection) -> dict[str, Figure]:
    """Return all figures that apply to the run, by name."""
    figures = {"learning-curves": draw_learning_curves(run.curves, run.failed)}
    if run.hardest:
        figures["hardest-pairs"] = draw_hardest_pairs(run.hardest, run.images, run.relation, run.class_names)
    if run.confusion is not None:
        figures["digit-confusion"] = draw_confusion(run.confusion, run.class_names)
    figures["accuracy-by-distance"] = draw_accuracy_by_distance(run.distances, has_names=bool(run.class_names))
    figures["accuracy-by-classes"] = draw_accuracy_by_classes(run.class_pairs, run.class_names)
    figures["calibration"] = draw_reliability(run.calibration, run.relation)
    if run.agreement is not None:
        figures["agreement"] = draw_agreement(run.agreement, run.predictions.seeds)
    for name, figure in figures.items():
        basis = run.rounds + f", data: {run.source}" if name == "learning-curves" else run.basis
        figure.suptitle(f"{run.label}: {basis}".replace("$", r"\$"), size=9, color=_GREY, wrap=True)
    return figures


_HARD_PAIR_SIZE = (2.6, 2.15)  # width and height of a hard pair in inches
_TOP_MARGIN = 0.3  # margins above and below all pairs in inches
_BOTTOM_MARGIN = 0.55


def draw_hardest_pairs(
    pairs: Sequence[HardPair], images: FloatArray, relation: str, names: Sequence[str] = ()
) -> Figure:
    """Draw each pair of images with its true answer above and the P(relation) of every round, one dot each, below.

    Args:
        pairs: The H hard pairs.
        images: Their images, (H, 2, S, S).
        relation: The relation, such as ``le``.
        names: The class names, or empty to show class numbers.
    """
    columns = min(_MAX_COLUMNS, len(pairs))
    rows = -(-len(pairs) // columns)
    width, height = _HARD_PAIR_SIZE[0] * max(columns, 2), _TOP_MARGIN + _BOTTOM_MARGIN + _HARD_PAIR_SIZE[1] * rows
    figure = Figure(figsize=(width, height))
    for index, (pair, pair_images) in enumerate(zip(pairs, images, strict=True)):
        row, column = divmod(index, columns)
        left, top = _HARD_PAIR_SIZE[0] * (column + 0.12), height - _TOP_MARGIN - _HARD_PAIR_SIZE[1] * row
        above = figure.add_axes((left / width, (top - 1.35) / height, 0.76 * _HARD_PAIR_SIZE[0] / width, 0.95 / height))
        below = figure.add_axes((left / width, (top - 1.9) / height, 0.76 * _HARD_PAIR_SIZE[0] / width, 0.25 / height))
        _draw_pair(above, pair, pair_images, relation, names)
        _draw_probabilities(below, pair)
    caption = f"P(first {get_sign(relation)} second), one dot per round: blue = correct, orange = wrong"
    figure.text(0.5, 0.15 / height, caption, ha="center", size=9)
    return figure


def _draw_pair(axes: Axes, pair: HardPair, images: FloatArray, relation: str, names: Sequence[str]) -> None:
    gap = np.full((images.shape[-2], max(1, images.shape[-1] // 14)), 1.0)
    axes.imshow(np.concatenate([images[0], gap, images[1]], 1), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[], frame_on=False)
    n, truth = len(pair.probability), "yes" if pair.holds else "no"
    first, second = (shorten_name(names[digit], _MAX_NAME_LENGTH) if names else str(digit) for digit in pair.digits)
    separator = "\n" if len(first + second) > 8 else " "
    title = f"{first} {get_sign(relation)} {second}: {truth};{separator}wrong in {pair.num_wrong} of {n}"
    axes.set_title(title, size=9 if separator == " " else 7.5)
    if pair.read_counts is not None:
        short_names = [shorten_name(name, _MAX_NAME_LENGTH) for name in names]
        lines = [format_readings(counts, short_names) for counts in pair.read_counts]
        axes.set_xlabel(
            ("  |  " if len("".join(lines)) <= _MAX_LINE_LENGTH else "\n").join(lines), size=6.5, color="0.25"
        )


def format_readings(counts: IntArray, names: Sequence[str] = ()) -> str:
    """Return the two most frequently read classes with counts, such as ``9 (7×), 4 (3×)``; ``…`` for any others."""
    order = [digit for digit in np.argsort(-counts, kind="stable").tolist() if counts[digit]]
    texts = [f"{names[digit] if names else digit} ({counts[digit]}×)" for digit in order[:2]]
    return ", ".join(texts) + (" …" if len(order) > 2 else "")


def _draw_probabilities(axes: Axes, pair: HardPair) -> None:
    correct = pair.correct
    heights = 0.25 * np.cos(2.4 * np.arange(len(correct)))  # vertical jitter without random numbers
    axes.axvline(0.5, color="0.7", linewidth=0.8)
    size = 4 if len(correct) <= _MAX_HEAT_MAP_ROUNDS else 2
    for chosen, colour in ((correct, _BLUE), (~correct, _RED)):
        x, y = pair.probability[chosen], heights[chosen]
        axes.plot(x, y, "o", color=colour, alpha=0.6, markersize=size, clip_on=False)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.6, 0.6), yticks=[], xticks=[0, 0.5, 1])
    axes.set_xticklabels(["0", "", "1"], size=7)
    axes.spines[["left", "right", "top"]].set_visible(False)


def draw_confusion(confusion: Confusion, names: Sequence[str] = ()) -> Figure:
    """Draw the share of each true class (row) that is read as each class (column); only errors are coloured."""
    counts, shares, size = confusion.counts, confusion.shares, len(confusion.counts)
    errors = np.where(np.eye(size, dtype=bool), np.nan, shares)
    texts = [
        ["·" if not counts[i, j] else f"{100 * shares[i, j]:.1f}\n{counts[i, j]}" for j in range(size)]
        for i in range(size)
    ]
    figure, axes = _build_square_figure(size)
    highest = max(100 * float(errors[np.isfinite(errors)].max(initial=0)), 1)
    shades = _draw_heat_map(axes, 100 * errors, texts, "Oranges", 0, highest, "true", "read")
    _label_classes(axes, names)
    figure.colorbar(shades, label="misread as (% of the true class)", shrink=0.8)
    return figure


def _build_square_figure(size: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 6.2) if size > 5 else (5.4, 4.4), layout="constrained")
    return figure, figure.subplots()


def _draw_heat_map(
    axes: Axes,
    values: FloatArray,
    texts: Sequence[Sequence[str]],
    colours: str,
    low: float,
    high: float,
    rows: str,
    columns: str,
) -> AxesImage:
    """Draw a square heat map with NaN in light grey; a small one has a text in each cell."""
    size = len(values)
    axes.set_facecolor("0.93")
    shades = axes.imshow(values, cmap=colours, vmin=low, vmax=high)
    if size <= _MAX_ROWS_WITH_TEXT:
        for i in range(size):
            for j in range(size):
                axes.text(
                    j, i, texts[i][j], ha="center", va="center", size=7, color=_choose_text_colour(shades, values[i, j])
                )
    step = 1 if size <= 2 * _MAX_ROWS_WITH_TEXT else -(-size // _MAX_ROWS_WITH_TEXT)
    axes.set(xticks=range(0, size, step), yticks=range(0, size, step), xlabel=columns, ylabel=rows)
    return shades


def _label_classes(axes: Axes, names: Sequence[str]) -> None:
    """Label the ticks of both axes with the class names, if there are any."""
    if not names:
        return
    for axis in (axes.xaxis, axes.yaxis):
        digits = [round(position) for position in axis.get_ticklocs()]
        axis.set_ticks(digits, [shorten_name(names[digit], _MAX_NAME_LENGTH) for digit in digits])
    if max(map(len, names)) > _MAX_HORIZONTAL_LENGTH:
        axes.tick_params("x", rotation=90)


def _choose_text_colour(shades: AxesImage, value: float) -> str:
    """Return the text colour, black or white, that is readable on the colour of the value."""
    if np.isnan(value):
        return "black"
    red, green, blue = to_rgb(shades.to_rgba(np.array([value]))[0])
    return "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"


def draw_accuracy_by_distance(distances: Sequence[DistanceAccuracy], *, has_names: bool = False) -> Figure:
    """Draw the mean accuracy over rounds by class distance, with its 95 % interval and the number of pairs."""
    figure = Figure(figsize=(max(5.5, 2 + 0.45 * len(distances)), 3.6), layout="constrained")
    axes = figure.subplots()
    x = [point.distance for point in distances]
    means = np.array([point.accuracy.mean for point in distances])
    half_widths = np.nan_to_num([point.accuracy.half_width for point in distances])
    axes.errorbar(x, means, half_widths, fmt="o-", color=_BLUE, capsize=3, linewidth=1, markersize=4)
    step = 1 if len(distances) <= 2 * _MAX_ROWS_WITH_TEXT else -(-len(distances) // _MAX_ROWS_WITH_TEXT)
    labels = [f"{point.distance}\n({point.pairs})" for point in distances[::step]]
    axes.set_xticks(x[::step], labels)
    label = "|first − second|" if not has_names else "distance in the order of the classes"
    axes.set(xlabel=f"{label} (number of pairs)", ylabel=Metric("test", "accuracy").title)
    axes.grid(alpha=0.3)
    return figure


def draw_accuracy_by_classes(class_pairs: ClassPairAccuracy, names: Sequence[str] = ()) -> Figure:
    """Draw the accuracy by the classes of both images; cells with few pairs are hatched."""
    accuracy, pairs, size = class_pairs.accuracy, class_pairs.pairs, len(class_pairs.pairs)
    texts = [
        ["" if not pairs[i, j] else f"{100 * accuracy[i, j]:.0f}\n({pairs[i, j]})" for j in range(size)]
        for i in range(size)
    ]
    figure, axes = _build_square_figure(size)
    low = 100 * float(np.nanmin(accuracy))
    shades = _draw_heat_map(axes, 100 * accuracy, texts, "Oranges_r", min(low, 99), 100, "first", "second")
    _label_classes(axes, names)
    few = np.argwhere((pairs > 0) & (pairs < MIN_PAIRS))
    for row, column in few.tolist():
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="////", edgecolor="0.7", linewidth=0, zorder=1.5))
    if len(few):
        axes.set_xlabel(f"second (hatched: fewer than {MIN_PAIRS} pairs)")
    figure.colorbar(shades, label="accuracy (% of pairs)", shrink=0.8)
    return figure


def draw_reliability(calibration: Calibration, relation: str) -> Figure:
    """Draw the reliability diagram of P(relation), and below it the distribution of P(relation)."""
    figure = Figure(figsize=(5.2, 5.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
    probability, share, counts = calibration.pooled
    top.plot([0, 1], [0, 1], ":", color=_GREY, linewidth=1, label="perfectly calibrated")
    filled, n = counts > 0, len(calibration.counts)
    x, y, bars = probability[filled], share[filled], np.nan_to_num(calibration.half_widths[filled])
    label = f"{n} rounds pooled, 95 % interval" if n > 1 else "the round"
    top.errorbar(x, y, bars, fmt="o-", color=_BLUE, markersize=5, linewidth=1, capsize=2, label=label)
    sign = get_sign(relation)
    top.set(ylabel=f"share of pairs with first {sign} second", ylim=(-0.03, 1.03), xlim=(-0.03, 1.03))
    top.legend(fontsize=8, loc="upper left")
    edges = np.linspace(0, 1, len(counts) + 1)
    bottom.stairs(100 * counts / counts.sum(), edges, fill=True, color=_BLUE, alpha=0.5)
    bottom.set(xlabel=f"P(first {sign} second)", ylabel="predictions (%)")
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    return figure


def draw_agreement(agreement: Agreement, seeds: Sequence[int]) -> Figure:
    """Draw the share of pairs for which two rounds predict the same: a heat map for few rounds, else a histogram."""
    size = agreement.num_rounds
    if size > _MAX_HEAT_MAP_ROUNDS:
        figure = Figure(figsize=(5.5, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.hist(100 * agreement.shares[np.triu_indices(size, 1)], bins=30, color=_BLUE, alpha=0.6)
        axes.set(xlabel="pairs with equal predictions (%)", ylabel="pairs of rounds")
        axes.grid(alpha=0.3)
        return figure
    shares = 100 * np.where(np.eye(size, dtype=bool), np.nan, agreement.shares)
    texts = [["" if i == j else f"{shares[i, j]:.1f}" for j in range(size)] for i in range(size)]
    figure, axes = _build_square_figure(size)
    low, high = 100 * agreement.share.min, 100 * agreement.share.max
    shades = _draw_heat_map(axes, shares, texts, "Blues", low - 0.5, high + 0.5, "seed", "seed")
    axes.set_xticks(range(size), list(map(str, seeds[:size])), rotation=0 if size <= _MAX_ROWS_WITH_TEXT else 90)
    axes.set_yticks(range(size), list(map(str, seeds[:size])))
    figure.colorbar(shades, label="pairs with equal predictions (%)", shrink=0.8)
    return figure


def draw_learning_curves(curves: Curves, failed: Sequence[int]) -> Figure:
    """Draw accuracy and loss by epoch, one column per split, with a thin line per round and a thick line for the mean.

    Failed rounds are dotted up to their last finite value, which is marked with a cross. The mean leaves them out.
    """
    metrics = [Metric(split, name) for name in ("accuracy", "loss") for split in SPLIT_NAMES]
    measured = [metric for metric in metrics if metric.tag in curves.values]
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
    has_failed = np.isin(curves.seeds, failed)
    ok_values, marker = values[:, ~has_failed], "o" if curves.epochs == 1 else ""
    n = ok_values.shape[1]
    alpha = 0.25 if n > 1 else 1
    lines = axes.plot(epochs, ok_values[:, :_MAX_CURVES], color=_BLUE, alpha=alpha, linewidth=0.7, marker=marker)
    if n:
        drawn = "each of" if n <= _MAX_CURVES else f"{_MAX_CURVES} of"
        lines[0].set_label(f"{drawn} {n} rounds" if n > 1 else "the round")
    if n > 1:
        axes.plot(epochs, ok_values.mean(1), color="black", linewidth=1.4, marker=marker, label=f"mean (n = {n})")
    for index, column in enumerate(np.flatnonzero(has_failed).tolist()):
        curve, label = values[:, column], f"failed ({has_failed.sum()})" if index == 0 else None
        end = np.flatnonzero(np.isfinite(curve))[-1:].tolist()
        # scaley: a diverging curve must not flatten the others
        axes.plot(epochs, curve, ":x", color=_RED, linewidth=1, label=label, markevery=end, scaley=not n)
