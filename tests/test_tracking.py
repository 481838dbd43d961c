from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata

from pairs_lit.runs.tables import read_curves
from pairs_lit.training.rounds import RoundRunner
from tests.conftest import Fit


def _events(run: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0})
    return accumulator.Reload()


def test_scalars_are_those_computed_from_the_curves(fit: Fit) -> None:
    run = fit("--trainer.max_epochs", "3")
    events, curves = _events(run), read_curves(run / "curves.csv")
    expected = {f"{name}/{part}" for name in curves.values for part in ("mean", "low", "high")}
    final = {tag for tag in events.Tags()["scalars"] if tag.startswith("final/")}
    assert set(events.Tags()["scalars"]) - final == expected
    for name, values in curves.values.items():
        mean, std = values.mean(1), values.std(1, ddof=1)
        for part, figures in (("mean", mean), ("low", mean - std), ("high", mean + std)):
            scalars = events.Scalars(f"{name}/{part}")
            assert [scalar.step for scalar in scalars] == [1, 2, 3]
            np.testing.assert_allclose([scalar.value for scalar in scalars], figures, rtol=1e-6)


def test_one_round_has_no_margin(fit: Fit) -> None:
    tags = _events(fit("--rounds.count", "1")).Tags()["scalars"]
    assert "test/accuracy/mean" in tags
    assert not any(tag.endswith(("/low", "/high")) for tag in tags)


def test_failed_rounds_are_left_out_of_the_means(fit: Fit) -> None:
    run = fit("--model.backbone", "tests.user_parts.BreaksForSeedOne")
    good = read_curves(run / "curves.csv").values["test/accuracy"][:, [0, 2]]
    scalars = _events(run).Scalars("test/accuracy/mean")
    np.testing.assert_allclose([scalar.value for scalar in scalars], good.mean(1), rtol=1e-6)


def test_margin_charts_are_laid_out_for_every_metric(fit: Fit) -> None:
    run = fit()
    (event,) = _events(run).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = {(m.value, m.lower, m.upper) for c in layout.category for h in c.chart for m in h.margin.series}
    names = read_curves(run / "curves.csv").values
    assert charts == {(f"{name}/mean", f"{name}/low", f"{name}/high") for name in names}


def test_hyperparameters_stand_beside_the_final_metrics(fit: Fit) -> None:
    run = fit()
    events = _events(run)
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    parameters = metadata.parse_session_start_info_plugin_data(content).hparams
    assert parameters["model.loss.aux_weight"].number_value == 0.5
    assert parameters["data.source found"].string_value == "mnist (unverified)"
    assert parameters["parameters per round"].number_value == 1781
    assert not any("path__" in name or name == "config" for name in parameters)
    final = read_curves(run / "curves.csv").values["test/accuracy"][-1]
    assert events.Scalars("final/test_accuracy")[-1].value == pytest.approx(final.mean(), rel=1e-6)


def test_the_summary_stands_as_text(fit: Fit) -> None:
    (event,) = _events(fit()).Tensors("summary/text_summary")
    assert b"| test accuracy" in event.tensor_proto.string_val[0]


def test_another_logger_gets_the_same_scalars(fit: Fit, tmp_path: Path) -> None:
    run = fit(
        "--trainer.logger", "lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir", str(tmp_path / "other")
    )
    (table,) = (tmp_path / "other").rglob("metrics.csv")
    header = table.read_text().splitlines()[0].split(",")
    assert {f"{name}/mean" for name in read_curves(run / "curves.csv").values} <= set(header)


def test_a_round_that_failed_once_stays_out_of_what_is_shown_also_after_resuming() -> None:
    runner = RoundRunner(count=3)
    losses = [[1.0, torch.nan, 2.0], [3.0, 4.0, 5.0]]
    values = torch.tensor(losses, dtype=torch.float64)
    runner.load_state_dict(
        {"curves": {"train/loss": values, "test/accuracy": values + 10}, "seconds": 0.0, "commits": [None]}
    )
    assert runner.epochs == 2
    assert runner.latest == {"train/loss": [3.0, 5.0], "test/accuracy": [13.0, 15.0]}
    again = RoundRunner(count=3)
    again.load_state_dict(runner.state_dict())
    assert again.latest == runner.latest
