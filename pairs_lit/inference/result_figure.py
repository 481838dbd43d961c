"""Figure of the images that the networks saw, and of their predictions."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pairs_lit.analysis.figures import COLOURS, shorten_name
from pairs_lit.inference.predictions import ApplyResult, PairPrediction
from pairs_lit.relation import get_sign
from pairs_lit.statistics import format_mean_and_std
from pairs_lit.text import format_count, replace_control_characters

_MAX_PAIRS = 40
"""The largest number of pairs that are drawn; viewers cannot open a much larger figure."""


def draw_result(applied: ApplyResult) -> Figure:
    """Draw a row for each pair: both images as converted and as averaged, and P(relation) of each round.

    Of more than 40 pairs, the first 40 are drawn, and the title says so.
    """
    count = min(len(applied.pairs), _MAX_PAIRS)
    pairs = zip(applied.pairs[:count], applied.images, applied.seen, strict=False)
    figure = Figure(figsize=(9.2, 0.7 + 2.0 * count), layout="constrained")
    rows = figure.subplots(count, 5, squeeze=False, width_ratios=[1, 1, 1, 1, 1.6])
    for row, (pair, images, seen) in zip(rows, pairs, strict=True):
        for side in (0, 1):
            _draw_image(row[2 * side], images[side], pair.names[side])
            _draw_image(row[2 * side + 1], seen[side], "averaged to")
            if pair.readings is not None:
                reading = pair.readings[side]
                agreeing = f" ({reading.agreeing} of {len(applied.seeds)})"
                row[2 * side].set_xlabel(f"read as {shorten_name(reading.label, 18)}{agreeing}", fontsize=8)
        _draw_rounds(row[4], pair, get_sign(applied.relation))
    part = f" (the first {count} of {len(applied.pairs)} pairs)" if count < len(applied.pairs) else ""
    note = f"\n{applied.note}" if applied.note else ""
    figure.suptitle(
        f"What {format_count(len(applied.seeds), 'round')} saw and predicted{part}; trained on {applied.source}{note}",
        size=10,
    )
    return figure


def _draw_image(axes: Axes, image: object, title: str) -> None:
    """Draw grey values without rescaling them; cut a long name at its beginning, since a path's end says most."""
    short = title if len(title) <= 22 else f"…{title[-21:]}"
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")  # type: ignore[arg-type]
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(replace_control_characters(short).replace("$", r"\$"), fontsize=8)


def _draw_rounds(axes: Axes, pair: PairPrediction, sign: str) -> None:
    """Draw P(relation) of each round as a point, and the mean as a line."""
    n = len(pair.rounds)
    mean = pair.probability.mean
    axes.axvline(0.5, color="0.8", linewidth=1)
    axes.plot(pair.rounds, range(n), "o", color=COLOURS[0], alpha=0.6, markersize=4)
    axes.axvline(mean, color=COLOURS[3], linewidth=1.4)
    axes.set(xlim=(-0.03, 1.03), ylim=(-1, n), yticks=[])
    axes.set_xlabel(f"P(left {sign} right) of each round", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.set_title(f"{pair.answer}\n{format_mean_and_std(pair.probability)}", fontsize=8)
