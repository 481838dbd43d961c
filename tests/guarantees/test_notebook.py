"""Results in the kernel of a notebook: one progress bar for each call, tables as HTML, each figure once."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.notebooks import count_bars, execute_cells, join_stream, list_displayed, read_html

CELLS = {
    "fit": """
import pairs_lit
options = {"data.source": "digits", "data.train_pairs": 60, "data.val_pairs": 20, "data.test_pairs": 30,
           "trainer.max_epochs": 2, "trainer.devices": 2, "rounds.stack_size": 2, "data.all_pairs": ["test"]}
run = pairs_lit.fit("fc_aux", {**options, "rounds.count": 4})
""",
    "run": "run",
    "summary": 'run.summary["test_accuracy"]',
    "plot before pyplot is used": "run.plot()",
    "hidden bar": """
other = pairs_lit.fit("fc", {**options, "rounds.count": 4, "trainer.enable_progress_bar": False})
""",
    "comparison": "comparison = pairs_lit.compare([run, other])\ncomparison",
    "plot after pyplot is used": "from matplotlib import pyplot\npyplot.close(pyplot.figure())\ncomparison.plot()",
    "sweep": """
space = {"model.loss.aux_weight": [0.5, 2]}
pairs_lit.sweep("fc_aux", {"space": space, "rounds": {"count": 2}, "confirm": {"count": 2, "seed": 9}}, options)
""",
    "inspection": "pairs_lit.inspect_run(run)",
}

Outputs = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    return dict(zip(CELLS, execute_cells(list(CELLS.values()), tmp_path_factory.mktemp("kernel")), strict=True))


@pytest.mark.parametrize("cell", ["fit", "sweep"])
def test_a_call_shows_one_progress_bar(outputs: Outputs, cell: str) -> None:
    assert count_bars(outputs[cell]) == 1


def test_a_bar_can_be_hidden(outputs: Outputs) -> None:
    assert outputs["hidden bar"] == []


@pytest.mark.parametrize("cell", ["fit", "sweep"])
def test_there_are_no_warnings(outputs: Outputs, cell: str) -> None:
    assert "Warning" not in join_stream(outputs[cell], "stderr")
    assert not join_stream(outputs[cell], "stdout")


@pytest.mark.parametrize("cell", ["run", "summary", "comparison", "sweep", "inspection"])
def test_a_result_is_displayed_as_html_with_mean_std_and_n(outputs: Outputs, cell: str) -> None:
    (data,) = [data for data in list_displayed(outputs[cell]) if "text/html" in data]
    texts = read_html("".join(data["text/html"]))
    assert any(" ± " in text for text in texts)
    assert "n" in texts or any("(n = 4)" in text for text in texts)


@pytest.mark.parametrize("cell", ["plot before pyplot is used", "plot after pyplot is used"])
def test_a_figure_is_displayed_once(outputs: Outputs, cell: str) -> None:
    (data,) = list_displayed(outputs[cell])
    assert "image/png" in data


def test_the_path_of_a_run_is_relative(outputs: Outputs) -> None:
    (data,) = list_displayed(outputs["run"])
    folder = read_html("".join(data["text/html"]))[-1].removeprefix("run: ")
    assert Path(folder).parts[:2] == ("lightning_logs", "fc_aux")
