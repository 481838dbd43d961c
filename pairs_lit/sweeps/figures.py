"""Figures of a sweep: the metric against each option, a heat map of two, and Optuna's own for more."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.visualization import matplotlib as drawn

from pairs_lit.analysis.figures import COLOURS, save
from pairs_lit.errors import counted, notice, reason_of
from pairs_lit.statistics import half_width
from pairs_lit.sweeps.report import Sweep
from pairs_lit.sweeps.space import Dimension, Range, shown
from pairs_lit.sweeps.trial import Trial

_FEW = 2
_ENOUGH = 4


def write_figures(sweep: Sweep, study: optuna.Study) -> None:
    """Write ``values.png``, ``heat-map.png`` of two options, ``importance.png`` and ``parallel.png`` of several."""
    trials = [trial for trial in sweep.trials if trial.scores]
    save(values_figure(sweep, trials), sweep.folder / "values.png")
    options = list(sweep.spec.space)
    if len(options) == _FEW:
        save(heat_map(sweep, trials), sweep.folder / "heat-map.png")
    if len(options) < _FEW or len([trial for trial in trials if not trial.failed]) < _ENOUGH:
        return
    evaluator = PedAnovaImportanceEvaluator()
    name = sweep.spec.metric
    importances = partial(drawn.plot_param_importances, study, evaluator=evaluator, target_name=name)
    _draw(importances, sweep.folder / "importance.png", left=0.35)
    _draw(partial(drawn.plot_parallel_coordinate, study, target_name=name), sweep.folder / "parallel.png", bottom=0.3)


def values_figure(sweep: Sweep, trials: Sequence[Trial]) -> Figure:
    """Draw the metric of every trial against each option: mean and 95 % interval, the best marked."""
    space = sweep.spec.space
    figure = Figure(figsize=(5 * len(space), 3.6), layout="constrained")
    for axes, (option, dimension) in zip(figure.subplots(1, len(space), squeeze=False)[0], space.items(), strict=True):
        places = _places(axes, dimension, [trial.values[option] for trial in trials])
        for place, trial in zip(places, trials, strict=True):
            is_best = trial.number == sweep.best.number
            half = half_width(trial.summary)
            error = None if np.isnan(half) else half
            colour = COLOURS[3] if is_best else COLOURS[0]
            axes.errorbar(
                place,
                trial.summary.mean,
                error,
                fmt="D" if is_best else "o",
                color=colour,
                capsize=3,
                zorder=2 + is_best,
            )
        axes.set(xlabel=option, ylabel=f"{sweep.spec.metric}, mean and 95 % interval")
        axes.grid(alpha=0.3)
    figure.suptitle(_what(sweep), fontsize="medium")
    return figure


def _what(sweep: Sweep) -> str:
    """Say what the figures show: how many rounds a trial has, and of what data."""
    return f"{sweep.folder.name}: {counted(sweep.spec.rounds.count, 'round')} a trial, {sweep.best.data['source']}"


def _places(axes: Axes, dimension: Dimension, values: Sequence[object]) -> list[float]:
    """Return where values stand on the axis; choices stand side by side, unless they are numbers."""
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values):
        labels = list(dict.fromkeys(map(shown, values)))
        axes.set_xticks(range(len(labels)), labels)
        return _side_by_side([float(labels.index(shown(value))) for value in values])
    is_wide = bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) >= 10
    is_log = dimension.is_log if isinstance(dimension, Range) else is_wide
    if is_log:
        axes.set_xscale("log")
        return [float(np.exp(place)) for place in _side_by_side([float(np.log(number)) for number in numbers])]
    return _side_by_side(numbers)


def _side_by_side(places: Sequence[float]) -> list[float]:
    """Move what stands at the same place apart by a hundredth of the axis."""
    step, seen = (max(places) - min(places) or 1.0) / 100, dict[float, int]()
    counts = {place: places.count(place) for place in places}
    moved = []
    for place in places:
        seen[place] = seen.get(place, 0) + 1
        moved.append(place + step * (seen[place] - (counts[place] + 1) / 2))
    return moved


def heat_map(sweep: Sweep, trials: Sequence[Trial]) -> Figure:
    """Draw the mean of the metric over two options; where several trials meet, the first, and thus best, of them."""
    first, second = sweep.spec.space
    rows, columns = (_sorted([trial.values[option] for trial in trials]) for option in (first, second))
    means = np.full((len(rows), len(columns)), np.nan)
    for trial in reversed(trials):
        means[rows.index(shown(trial.values[first])), columns.index(shown(trial.values[second]))] = trial.summary.mean
    figure = Figure(figsize=(2 + 0.9 * len(columns), 1.5 + 0.55 * len(rows)), layout="constrained")
    axes = figure.subplots()
    shades = axes.imshow(means, aspect="auto", cmap="viridis")
    axes.set_xticks(range(len(columns)), columns, rotation=45 if len(columns) > _ENOUGH else 0)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel=second, ylabel=first)
    figure.colorbar(shades, label=f"{sweep.spec.metric}, mean")
    figure.suptitle(_what(sweep), fontsize="medium")
    return figure


def _sorted(values: Sequence[object]) -> list[str]:
    numbers = [value for value in values if isinstance(value, int | float)]
    ordered: Sequence[object] = sorted(numbers) if len(numbers) == len(values) else values
    return list(dict.fromkeys(map(shown, ordered)))


def _draw(draw: Callable[[], Axes], path: Path, *, left: float | None = None, bottom: float | None = None) -> None:
    """Let Optuna draw, with room for the options' names; what it cannot draw is left out, and said so."""
    from matplotlib import pyplot

    try:
        with warnings.catch_warnings(action="ignore"), pyplot.rc_context():  # of what Optuna calls experimental
            figure = draw().get_figure()
            if isinstance(figure, Figure):
                figure.set_size_inches(9, 5.5)
                figure.subplots_adjust(left=left, bottom=bottom)
                save(figure, path)
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        notice(f"{path.name} is left out: {reason_of(error)}.")
    finally:
        pyplot.close("all")
