"""Figures of a sweep: the metric by option, a heat map of two options, and Optuna's importance and parallel plots.

Their size is limited, even for sweeps with thousands of trials.
"""

import hashlib
import json
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.visualization import matplotlib as drawn
from PIL import Image

from pairs_lit.analysis.figures import COLOURS, save_figure
from pairs_lit.sweeps.report import Sweep
from pairs_lit.sweeps.search_space import Choices, Dimension, Range, format_value, get_key
from pairs_lit.sweeps.trial import Trial
from pairs_lit.system.console import print_notice
from pairs_lit.system.tracebacks import format_reason
from pairs_lit.text import format_count

FIGURE_FILES = ("values.png", "heat-map.png", "importance.png", "parallel.png")

_HEAT_MAP_OPTIONS = 2
"""The number of options for which a heat map is drawn."""

_MIN_IMPORTANCE_TRIALS = 4
"""The number of trials from which Optuna can estimate the importance of options."""

_MAX_CELLS = 30
"""The largest number of rows and columns of a heat map; more values are drawn as points."""

_MAX_TICKS = 30
_MAX_LETTERS = 24
_MAX_PANELS_PER_ROW = 4
"""The largest number of panels in a row."""

_MAX_LINES = 1000
"""The parallel plot, which has a line for each trial, shows at most this many trials: the best ones."""

_MAX_TRIALS_WITH_BARS = 100
"""Intervals are drawn for at most this many trials; more would hide the means."""


def write_figures(sweep: Sweep, copy: Callable[[Sequence[Trial]], optuna.Study]) -> None:
    """Write ``values.png`` and, if they apply, ``heat-map.png``, ``importance.png`` and ``parallel.png``.

    The heat map needs exactly two options, the last two figures need two or more. A figure that already shows these
    trials is not drawn again.

    Args:
        sweep: The finished sweep.
        copy: A function that returns an Optuna study of the given trials.
    """
    mark = _compute_mark(sweep)
    for name, draw in _list_figures(sweep, copy):
        if not _is_drawn(sweep.folder / name, mark):
            _write_figure(sweep.folder / name, draw, mark)


def _list_figures(
    sweep: Sweep, copy: Callable[[Sequence[Trial]], optuna.Study]
) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Yield the file name of each figure that applies, and a function that draws it."""
    trials, options = [trial for trial in sweep.trials if trial.scores], len(sweep.spec.space)
    values, heat_map, importance, parallel = FIGURE_FILES
    yield values, partial(draw_values, sweep, trials)
    if options == _HEAT_MAP_OPTIONS:
        yield heat_map, partial(draw_two_options, sweep, trials)
    if options >= _HEAT_MAP_OPTIONS and len([trial for trial in trials if not trial.failed]) >= _MIN_IMPORTANCE_TRIALS:
        yield importance, lambda: _draw_importance(copy(trials), sweep.spec.metric)
        dimensions = sweep.spec.space.values()
        if all(isinstance(dimension, Range) or len(dimension.values) <= _MAX_TICKS for dimension in dimensions):
            yield parallel, lambda: _draw_parallel_coordinates(copy(trials[:_MAX_LINES]), sweep.spec.metric)


def _compute_mark(sweep: Sweep) -> str:
    """Return a hash of the trials, which each figure file stores in order to recognise outdated figures."""
    trials = [[trial.number, dict(trial.values), dict(trial.scores), list(trial.failed)] for trial in sweep.trials]
    text = json.dumps([sweep.folder.name, str(sweep.spec), trials, sweep.best.data], default=str)
    return f"trials {hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _is_drawn(path: Path, mark: str) -> bool:
    try:
        with Image.open(path) as image:
            return bool(image.info.get("Description") == mark)
    except OSError:  # the file is missing or not an image
        return False


def _write_figure(path: Path, draw: Callable[[], Figure], mark: str) -> None:
    """Draw and save a figure; if Optuna cannot draw it, print a notice instead."""
    from matplotlib import pyplot

    try:
        # ignore warnings about letters that the font lacks, and about experimental functions of Optuna
        with warnings.catch_warnings(action="ignore"), pyplot.rc_context():
            save_figure(draw(), path, mark)
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        print_notice(f"{path.name} is left out: {format_reason(error)}.")
    finally:
        pyplot.close("all")


def draw_values(sweep: Sweep, trials: Sequence[Trial]) -> Figure:
    """Draw each trial's mean against every option, with 95 % intervals if there are few trials; mark the best trial."""
    space, has_bars = sweep.spec.space, len(trials) <= _MAX_TRIALS_WITH_BARS
    label = f"{sweep.spec.metric}, mean and 95 % interval" if has_bars else f"{sweep.spec.metric}, mean"
    columns = min(len(space), _MAX_PANELS_PER_ROW)
    rows = math.ceil(len(space) / columns)
    figure = Figure(figsize=(5 * columns, 3.6 * rows), layout="constrained")
    panels = iter(figure.subplots(rows, columns, squeeze=False).flat)
    for (option, dimension), axes in zip(space.items(), panels, strict=False):
        positions = _place_values(axes, "x", dimension, [trial.values[option] for trial in trials])
        spread = _spread_overlaps(positions, is_log=axes.get_xscale() == "log")
        _draw_trials(axes, spread, trials, sweep.best, has_bars=has_bars)
        axes.set(xlabel=_shorten(option, 2 * _MAX_LETTERS), ylabel=label)
        axes.grid(alpha=0.3)
    for axes in panels:  # unused panels of the last row
        axes.remove()
    figure.suptitle(_format_title(sweep), fontsize="medium")
    return figure


def _draw_trials(axes: Axes, places: Sequence[float], trials: Sequence[Trial], best: Trial, *, has_bars: bool) -> None:
    x, means = np.array(places), np.array([trial.summary.mean for trial in trials])
    halves = np.array([trial.summary.half_width for trial in trials])  # NaN for a single round draws no bar
    is_best = np.array([trial.number == best.number for trial in trials])
    size, alpha = (None, 1.0) if has_bars else (3, 0.5)
    bars = halves[~is_best] if has_bars else None
    axes.errorbar(x[~is_best], means[~is_best], bars, fmt="o", color=COLOURS[0], capsize=3, ms=size, alpha=alpha)
    axes.errorbar(x[is_best], means[is_best], halves[is_best], fmt="D", color=COLOURS[3], capsize=3, zorder=3)


def _format_title(sweep: Sweep) -> str:
    """Return a title with the sweep's name, the number of rounds per trial and the data source."""
    source = _shorten(str(sweep.best.data["source"]), 2 * _MAX_LETTERS)
    return f"{sweep.folder.name}: {format_count(sweep.spec.rounds.count, 'round')} per trial, {source}"


def _shorten(text: str, most: int = _MAX_LETTERS) -> str:
    """Return the end of a long text, where class paths differ; dollar signs are escaped, else they begin a formula."""
    return (text if len(text) <= most else f"…{text[1 - most :]}").replace("$", r"\$")


def _place_values(axes: Axes, axis: Literal["x", "y"], dimension: Dimension, values: Sequence[object]) -> list[float]:
    """Set up an axis and return the values' positions: numbers at their value, other values evenly spaced in order."""
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values):
        return _label_ticks(axes, axis, values, _order_by_space(dimension, values))
    if _is_log(dimension, numbers):
        axes.set(**{f"{axis}scale": "log"})
    return numbers


def _is_log(dimension: Dimension, numbers: Sequence[float]) -> bool:
    if isinstance(dimension, Range):
        return dimension.is_log
    return min(numbers) > 0 and max(numbers) / min(numbers) >= 10


def _order_by_space(dimension: Dimension, values: Sequence[object]) -> list[object]:
    """Return the distinct values in the order of the search space."""
    distinct = {get_key(value): value for value in values}
    space = dimension.values if isinstance(dimension, Choices) else ()
    return list({key: distinct[key] for key in [*map(get_key, space), *distinct] if key in distinct}.values())


def _label_ticks(axes: Axes, axis: Literal["x", "y"], values: Sequence[object], names: Sequence[object]) -> list[float]:
    """Label the ticks, only some of them if there are many names, and return the position of each value."""
    positions = {get_key(name): float(position) for position, name in enumerate(names)}
    step = math.ceil(len(names) / _MAX_TICKS)
    labels = [_shorten(format_value(name)) for name in names[::step]]
    is_crowded = sum(map(len, labels)) > 2 * _MAX_LETTERS
    if axis == "x":
        axes.set_xticks(range(0, len(names), step), labels, rotation=90 if is_crowded else 0)
    else:
        axes.set_yticks(range(0, len(names), step), labels)
    axes.tick_params(axis, labelsize=6 if len(labels) > _MAX_TICKS / 2 else None)
    return [positions[get_key(value)] for value in values]


def _spread_overlaps(positions: Sequence[float], *, is_log: bool) -> list[float]:
    """Return the positions with equal ones moved apart by a hundredth of the axis."""
    if is_log:
        return [math.exp(position) for position in _spread_overlaps(list(map(math.log, positions)), is_log=False)]
    step, seen, counts = (max(positions) - min(positions) or 1.0) / 100, Counter[float](), Counter(positions)
    spread = []
    for position in positions:
        seen[position] += 1
        # more than six equal positions are moved closer together, so that they do not spread over the axis
        spread.append(position + step * (seen[position] - (counts[position] + 1) / 2) * min(1, 6 / counts[position]))
    return spread


def draw_two_options(sweep: Sweep, trials: Sequence[Trial]) -> Figure:
    """Draw the mean of the metric over two options: a heat map for few values, coloured points for many."""
    options = [[trial.values[option] for trial in trials] for option in sweep.spec.space]
    has_few = all(len(set(map(get_key, values))) <= _MAX_CELLS for values in options)
    figure = _draw_cells(sweep, trials) if has_few else _draw_points(sweep, trials)
    first, second = (_shorten(option, 2 * _MAX_LETTERS) for option in sweep.spec.space)
    figure.axes[0].set(xlabel=second, ylabel=first)
    figure.suptitle(_format_title(sweep), fontsize="medium")
    return figure


def _draw_cells(sweep: Sweep, trials: Sequence[Trial]) -> Figure:
    """Draw a heat map; a cell with several trials shows the best one, which comes first."""
    first, second = ([trial.values[option] for trial in trials] for option in sweep.spec.space)
    down, across = sweep.spec.space.values()
    rows, columns = _sort_numbers(_order_by_space(down, first)), _sort_numbers(_order_by_space(across, second))
    means = np.full((len(rows), len(columns)), np.nan)
    row_of, column_of = ({get_key(value): n for n, value in enumerate(values)} for values in (rows, columns))
    for trial, row, column in reversed(list(zip(trials, first, second, strict=True))):
        means[row_of[get_key(row)], column_of[get_key(column)]] = trial.summary.mean
    figure = Figure(figsize=(min(2 + 0.9 * len(columns), 15), min(1.5 + 0.55 * len(rows), 12)), layout="constrained")
    axes = figure.subplots()
    figure.colorbar(axes.imshow(means, aspect="auto", cmap="viridis"), label=f"{sweep.spec.metric}, mean")
    _label_ticks(axes, "x", columns, columns)
    _label_ticks(axes, "y", rows, rows)
    return figure


def _draw_points(sweep: Sweep, trials: Sequence[Trial]) -> Figure:
    """Draw a coloured point for each trial; mark the best one and draw it on top."""
    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    axes, from_worst = figure.subplots(), trials[::-1]
    (first, down), (second, across) = sweep.spec.space.items()
    x = _place_values(axes, "x", across, [trial.values[second] for trial in from_worst])
    y = _place_values(axes, "y", down, [trial.values[first] for trial in from_worst])
    shades = axes.scatter(x, y, c=[trial.summary.mean for trial in from_worst], cmap="viridis", s=18)
    axes.plot(x[-1:], y[-1:], "D", markersize=9, markerfacecolor="none", markeredgecolor=COLOURS[3], label="best")
    axes.legend(fontsize=8)
    figure.colorbar(shades, label=f"{sweep.spec.metric}, mean")
    return figure


def _sort_numbers(values: Sequence[object]) -> list[object]:
    """Return the values in ascending order if all are numbers, else in their given order."""
    numbers = [value for value in values if isinstance(value, int | float)]
    return [*(sorted(numbers) if len(numbers) == len(values) else values)]


def _draw_importance(study: optuna.Study, metric: str) -> Figure:
    axes = drawn.plot_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target_name=metric)
    return _widen_margins(axes, left=0.35)


def _draw_parallel_coordinates(study: optuna.Study, metric: str) -> Figure:
    return _widen_margins(drawn.plot_parallel_coordinate(study, target_name=metric), bottom=0.3)


def _widen_margins(axes: Axes, *, left: float | None = None, bottom: float | None = None) -> Figure:
    """Return the figure of Optuna's axes, with wider margins for the options' names."""
    figure = axes.get_figure()
    if not isinstance(figure, Figure):
        raise RuntimeError("Optuna drew no figure")
    figure.set_size_inches(9, 5.5)
    figure.subplots_adjust(left=left, bottom=bottom)
    return figure
