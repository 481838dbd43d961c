from pathlib import Path

import numpy as np
import pytest

from pairs_lit.analysis.figures import draw_curves, save_figure
from pairs_lit.runs.tables import Curves

PANELS = {"test/accuracy": "test accuracy (fraction of pairs)", "test/loss": "test loss (nats)"}


@pytest.fixture
def curves() -> Curves:
    values = np.array([[0.5, 0.6, 0.1], [0.7, 0.9, 0.2]])
    return Curves([0, 1, 2], {"test/accuracy": values, "test/loss": np.array([[1, 2, np.nan], [3, 4, np.nan]])})


def test_a_line_is_the_mean_over_the_rounds_that_did_not_fail(curves: Curves) -> None:
    axes = draw_curves({"a": curves}, PANELS).axes[0]
    (line,) = axes.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), [1, 2])
    np.testing.assert_allclose(line.get_ydata(), [0.55, 0.8])


def test_the_band_is_one_standard_deviation_of_the_sample(curves: Curves) -> None:
    axes = draw_curves({"a": curves}, PANELS).axes[0]
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx(0.8 + np.std([0.7, 0.9], ddof=1))
    assert heights.min() == pytest.approx(0.55 - np.std([0.5, 0.6], ddof=1))


def test_axes_and_lines_are_labelled_with_unit_and_n(curves: Curves) -> None:
    figure = draw_curves({"a": curves, "b": curves}, PANELS)
    assert [axes.get_ylabel() for axes in figure.axes] == list(PANELS.values())
    assert [axes.get_xlabel() for axes in figure.axes] == ["epoch", "epoch"]
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["a (n = 2, 1 failed)", "b (n = 2, 1 failed)"]


def test_lines_differ_in_colour_and_style(curves: Curves) -> None:
    lines = draw_curves({"a": curves, "b": curves}, PANELS).axes[0].get_lines()
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 2


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_figure_is_saved_in_the_format_of_its_name(curves: Curves, tmp_path: Path, suffix: str, start: bytes) -> None:
    path = tmp_path / f"figure.{suffix}"
    save_figure(draw_curves({"a": curves}, PANELS), path)
    assert path.read_bytes().startswith(start)


def test_a_metric_that_no_run_has_gets_no_panel_and_a_run_without_it_no_line(curves: Curves) -> None:
    other = Curves(curves.seeds, {**curves.values, "extra/loss": curves.values["test/accuracy"]})
    figure = draw_curves({"a": curves, "b": other}, PANELS | {"extra/loss": "extra", "no/loss": "none"})
    assert [axes.get_ylabel() for axes in figure.axes] == [*PANELS.values(), "extra"]
    assert [line.get_label() for line in figure.axes[-1].get_lines()] == ["b (n = 2, 1 failed)"]
