"""A run in Python: its table, figure and data frame."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pairs_lit import PairsLitError, Run
from pairs_lit.runs.tables import Curves, RoundResult
from tests.support.notebooks import read_html
from tests.support.small_runs import SMALL, RunCache, fit_small


def show(run: Run) -> list[str]:
    return read_html(run._repr_html_())


def test_the_table_has_mean_std_and_n_of_each_metric(runs: RunCache) -> None:
    run, summary = runs("parts"), runs("parts").summary["test_accuracy"]
    texts = show(run)
    assert texts[0] == "cnn_aux: 3 rounds (seeds 4 to 6); data: digits, 60 training pairs, relation le"
    place = texts.index("test accuracy")
    assert texts[place + 1 : place + 3] == ["3", f"{summary.mean:.4f} ± {summary.std:.4f}"]
    assert texts[-1] == f"run: {run.folder}"


def test_digit_metrics_need_trained_digits(runs: RunCache) -> None:
    assert "test digit accuracy" in show(runs("parts"))
    assert "test digit accuracy" not in show(runs("joint"))


def test_failed_rounds_are_named(runs: RunCache) -> None:
    run = runs("parts")
    lost = RoundResult(9, "failed", *[float("nan")] * 7, None)
    (note,) = [text for text in show(replace(run, rounds=[*run.rounds, lost])) if "FAILED" in text]
    assert note.startswith("1 of 4 rounds FAILED (loss not finite; seed 9)")


def test_names_are_escaped(runs: RunCache) -> None:
    assert show(replace(runs("parts"), label="<b>&\"'"))[0].startswith("<b>&\"': 3 rounds")


def test_a_folder_below_the_current_one_is_relative(runs: RunCache, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs("parts")
    monkeypatch.chdir(run.folder.parent)
    assert show(run)[-1] == f"run: {run.folder.name}"


def test_the_figure_has_training_loss_and_validation_accuracy(runs: RunCache) -> None:
    loss, accuracy = runs("parts").plot().axes
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("training loss", "validation accuracy (fraction of pairs)")
    (line,) = accuracy.get_lines()
    assert line.get_ydata() == pytest.approx(runs("parts").curves.values["val/accuracy"].mean(1))


def test_a_figure_shows_itself_as_png(runs: RunCache) -> None:
    assert runs("parts").plot()._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize("label", ["_x", "$x_1", "x" * 300])
def test_any_name_is_drawn(runs: RunCache, label: str) -> None:
    figure = replace(runs("parts"), label=label).plot()
    assert [len(axes.get_legend().get_texts()) for axes in figure.axes] == [1, 1]
    figure.savefig(io.BytesIO(), format="png")


def test_a_run_whose_rounds_all_failed_is_drawn_without_lines(runs: RunCache) -> None:
    run = replace(runs("parts"))
    run.__dict__["curves"] = Curves(run.curves.seeds, {name: v * np.nan for name, v in run.curves.values.items()})
    assert [axes.get_lines()[:] for axes in run.plot().axes] == [[], []]


def test_a_single_epoch_is_visible(tmp_path: Path) -> None:
    run = fit_small(SMALL, tmp_path, trainer__max_epochs=1)
    assert [line.get_marker() for axes in run.plot().axes for line in axes.get_lines()] == ["o", "o"]


def test_the_data_frame_is_the_table_of_the_rounds(runs: RunCache) -> None:
    run = runs("parts")
    pd.testing.assert_frame_equal(run.to_pandas(), pd.read_csv(run.folder / "rounds.csv"), check_dtype=False)


def test_without_pandas_the_error_says_what_to_install(runs: RunCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PairsLitError, match=r"^run\.to_pandas needs pandas: pip install pandas\.$"):
        runs("parts").to_pandas()
