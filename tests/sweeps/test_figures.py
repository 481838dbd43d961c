"""Figures of a sweep, without training: limited size for any number of trials, and no repeated drawing."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from PIL import Image

from pairs_lit.runs.metrics import METRICS_BY_TAG
from pairs_lit.sweeps.figures import draw_two_options, draw_values, write_figures
from pairs_lit.sweeps.parameters import ParameterCodec, build_distribution
from pairs_lit.sweeps.report import Sweep
from pairs_lit.sweeps.spec import read_spec
from pairs_lit.sweeps.trial import Trial, rank_trials

UNIT, RATE = {"low": 0.0, "high": 1.0}, {"low": 1e-4, "high": 0.1, "log": True}
MOST_PIXELS = 3200


def sweep_of(space: dict[str, Any], folder: Path, trials: int | None = None) -> Sweep:
    """Return a sweep with random scores."""
    how = {"sampler": "random", "trials": trials} if trials else {}
    spec, rng = read_spec({"space": space, "rounds": {"count": 3}} | how), np.random.default_rng(0)
    values = [(each, dict(enumerate(rng.normal(0.9, 0.02, 3)))) for each in spec.list_points() or []]
    result = [
        Trial(n, each, scores, [], Path(f"{n:04d}"), {"source": "mnist"}) for n, (each, scores) in enumerate(values)
    ]
    return Sweep(folder, spec, rank_trials(result, METRICS_BY_TAG["val/accuracy"]), None)


def copier(sweep: Sweep) -> Callable[[Sequence[Trial]], optuna.Study]:
    """Return a function that copies trials to an Optuna study, as ``Study.copy_trials`` does."""
    space = sweep.spec.space
    distributions = {option: build_distribution(each) for option, each in space.items()}

    def copy(trials: Sequence[Trial]) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(direction="maximize")
        for trial in trials:
            params = {option: ParameterCodec(space[option]).encode(trial.values[option]) for option in space}
            value = trial.summary.mean
            study.add_trial(optuna.trial.create_trial(value=value, params=params, distributions=distributions))
        return study

    return copy


@pytest.mark.parametrize(
    ("space", "trials", "names"),
    [
        ({"a.b": UNIT, "c.lr": RATE}, 300, {"values.png", "heat-map.png", "importance.png", "parallel.png"}),
        ({"a.b": UNIT, "c.lr": RATE, "d": {"low": 1, "high": 9}}, 60, {"values.png", "importance.png", "parallel.png"}),
        ({"a": [f"module.with.a.long.name.Class${n}$" for n in range(500)]}, None, {"values.png"}),
        ({"a": [1, 2, 3], "b": UNIT | {"steps": 200}}, None, {"values.png", "heat-map.png", "parallel.png"}),
        ({"a": [True, False], "b": [f"Class{n}" for n in range(200)]}, None, {"values.png", "heat-map.png"}),
        ({f"option{n}": UNIT for n in range(10)}, 20, {"values.png", "parallel.png"}),
    ],
)
@pytest.mark.quick(3)
def test_figure_size_is_limited(space: dict[str, Any], trials: int | None, names: set[str], tmp_path: Path) -> None:
    sweep = sweep_of(space, tmp_path, trials)
    write_figures(sweep, copier(sweep))
    written = {path.name for path in tmp_path.iterdir()}
    assert names <= written
    assert ("parallel.png" in names) == ("parallel.png" in written)
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert max(image.size) <= MOST_PIXELS, (path.name, image.size)


def test_continuous_options_are_points_and_few_values_are_cells(tmp_path: Path) -> None:
    sweep = sweep_of({"a": UNIT, "lr": RATE}, tmp_path, 40)
    axes = draw_two_options(sweep, sweep.trials).axes[0]
    (points,) = axes.collections
    assert len(np.asarray(points.get_offsets())) == 40
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    assert axes.lines[0].get_xdata() == [sweep.best.values["lr"]]
    sweep = sweep_of({"a": [1, 2, 3], "b": ["x", "y"]}, tmp_path)
    axes = draw_two_options(sweep, sweep.trials).axes[0]
    cells = np.asarray(axes.images[0].get_array())
    assert cells.shape == (3, 2)
    means = {(trial.values["a"], trial.values["b"]): trial.summary.mean for trial in sweep.trials}
    assert cells.tolist() == [
        [means[1, "x"], means[1, "y"]],
        [means[2, "x"], means[2, "y"]],
        [means[3, "x"], means[3, "y"]],
    ]


def test_similar_values_get_separate_cells(tmp_path: Path) -> None:
    sweep = sweep_of({"a": [0.12345678, 0.12345679], "b": [1, 2]}, tmp_path)
    assert np.asarray(draw_two_options(sweep, sweep.trials).axes[0].images[0].get_array()).shape == (2, 2)


def test_only_some_of_many_labels_are_shown_in_space_order(tmp_path: Path) -> None:
    sweep = sweep_of({"a": [f"Class{n}" for n in range(100)]}, tmp_path)
    labels = [tick.get_text() for tick in draw_values(sweep, sweep.trials).axes[0].get_xticklabels()]
    assert labels == [f"Class{n}" for n in range(0, 100, 4)]


def test_a_finished_sweep_is_not_drawn_again(tmp_path: Path) -> None:
    def refuse(_: object) -> optuna.Study:
        raise AssertionError("drawn again")

    sweep = sweep_of({"a": [1, 2], "b": [0.1, 0.2]}, tmp_path)
    write_figures(sweep, copier(sweep))
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    write_figures(sweep, refuse)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    (tmp_path / "heat-map.png").unlink()
    write_figures(sweep, refuse)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"heat-map.png"}


def test_a_sweep_with_other_trials_is_drawn_again(tmp_path: Path) -> None:
    sweep = sweep_of({"a": [1, 2, 3]}, tmp_path)
    write_figures(sweep, copier(sweep))
    before = (tmp_path / "values.png").read_bytes()
    write_figures(Sweep(tmp_path, sweep.spec, sweep.trials[:2], None), copier(sweep))
    assert (tmp_path / "values.png").read_bytes() != before


THOUSAND = """
import re, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from tests.sweeps.test_figures import RATE, UNIT, copier, sweep_of, write_figures
space = {{"a": UNIT, "lr": RATE, "c": UNIT}} if {options} == 3 else {{"a": UNIT, "lr": RATE}}
sweep = sweep_of(space, Path({folder!r}), 1000)
write_figures(sweep, copier(sweep))
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())  # ru_maxrss starts at the parent's
print(int(peak.group(1)) / 2**20, time.process_time())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is on Linux only")
@pytest.mark.parametrize("options", [2, 3])
def test_a_thousand_trials_take_little_memory(options: int, tmp_path: Path) -> None:
    code = THOUSAND.format(tests=str(Path(__file__).parents[2]), folder=str(tmp_path), options=options)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    gibibytes, seconds = map(float, done.stdout.split())
    assert gibibytes < 1.5
    assert seconds < 60
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".png"]
