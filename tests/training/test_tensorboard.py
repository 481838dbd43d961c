import csv
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata

import pairs_lit
from pairs_lit.cli import main
from pairs_lit.runs.tables import read_curves
from pairs_lit.system.paths import parse_stored_path
from pairs_lit.training.round_runner import RoundRunner
from pairs_lit.training.tensorboard import _move_paths
from tests.conftest import CONFIGS, Fit


def _read_events(run: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0})
    return accumulator.Reload()


def test_scalars_are_those_computed_from_the_curves(fit: Fit) -> None:
    run = fit("--trainer.max_epochs", "3")
    events, curves = _read_events(run), read_curves(run / "curves.csv")
    expected = {f"{name}/{part}" for name in curves.values for part in ("mean", "low", "high")}
    final = {tag for tag in events.Tags()["scalars"] if tag.startswith("final/")}
    assert set(events.Tags()["scalars"]) - final == expected
    for name, values in curves.values.items():
        mean, std = values.mean(1), values.std(1, ddof=1)
        for part, expected_values in (("mean", mean), ("low", mean - std), ("high", mean + std)):
            scalars = events.Scalars(f"{name}/{part}")
            assert [scalar.step for scalar in scalars] == [1, 2, 3]
            np.testing.assert_allclose([scalar.value for scalar in scalars], expected_values, rtol=1e-6)


def test_one_round_has_no_margin(fit: Fit) -> None:
    tags = _read_events(fit("--rounds.count", "1")).Tags()["scalars"]
    assert "test/accuracy/mean" in tags
    assert not any(tag.endswith(("/low", "/high")) for tag in tags)


def test_failed_rounds_are_left_out_of_the_means(fit: Fit) -> None:
    run = fit("--model.backbone", "tests.support.user_parts.BreaksForSeedOne")
    good = read_curves(run / "curves.csv").values["test/accuracy"][:, [0, 2]]
    scalars = _read_events(run).Scalars("test/accuracy/mean")
    np.testing.assert_allclose([scalar.value for scalar in scalars], good.mean(1), rtol=1e-6)


def test_every_metric_has_a_margin_chart(fit: Fit) -> None:
    run = fit()
    (event,) = _read_events(run).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = {(m.value, m.lower, m.upper) for c in layout.category for h in c.chart for m in h.margin.series}
    names = read_curves(run / "curves.csv").values
    assert charts == {(f"{name}/mean", f"{name}/low", f"{name}/high") for name in names}


def test_hyperparameters_are_logged_with_the_final_metrics(fit: Fit) -> None:
    run = fit()
    events = _read_events(run)
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    parameters = metadata.parse_session_start_info_plugin_data(content).hparams
    assert parameters["model.loss.aux_weight"].number_value == 0.5
    assert parameters["data.source found"].string_value == "mnist (unverified)"
    assert parameters["parameters per round"].number_value == 1781
    assert not any("path__" in name or name == "config" for name in parameters)
    final = read_curves(run / "curves.csv").values["test/accuracy"][-1]
    assert events.Scalars("final/test_accuracy")[-1].value == pytest.approx(final.mean(), rel=1e-6)


def test_the_summary_is_logged_as_text(fit: Fit) -> None:
    (event,) = _read_events(fit()).Tensors("summary/text_summary")
    assert b"| test accuracy" in event.tensor_proto.string_val[0]


def test_a_failed_round_stays_excluded_after_resuming() -> None:
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


LOGGERS = "lightning.pytorch.loggers"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    return tmp_path / "outside"


def compute_scalars(run: Path) -> dict[str, list[float]]:
    """Compute from the curves the scalars that loggers receive, by name, with a value for each epoch."""
    scalars = {}
    for name, values in read_curves(run / "curves.csv").values.items():
        mean, std = values.mean(1), values.std(1, ddof=1)
        statistics = {"mean": mean, "low": mean - std, "high": mean + std}
        scalars |= {f"{name}/{part}": value.tolist() for part, value in statistics.items()}
    return scalars


def test_a_csv_logger_gets_scalars_hyperparameters_and_final_metrics(fit: Fit, outside: Path) -> None:
    run = fit("--trainer.logger", f"{LOGGERS}.CSVLogger", "--trainer.logger.save_dir", str(outside))
    with next(outside.rglob("metrics.csv")).open(newline="") as file:
        *epochs, final = csv.DictReader(file)
    for name, values in compute_scalars(run).items():
        assert [float(row[name]) for row in epochs] == pytest.approx(values, rel=1e-12)
    assert [row["step"] for row in [*epochs, final]] == ["1", "2", "2"]
    last = read_curves(run / "curves.csv").values["test/accuracy"][-1]
    assert float(final["final/test_accuracy"]) == pytest.approx(last.mean(), rel=1e-12)
    parameters = yaml.safe_load(next(outside.rglob("hparams.yaml")).read_text())
    assert parameters["model.loss.aux_weight"] == 0.5
    assert parameters["data.source found"] == "mnist (unverified)"


def test_lightnings_tensorboard_logger_gets_the_same(fit: Fit, outside: Path) -> None:
    run = fit("--trainer.logger", f"{LOGGERS}.TensorBoardLogger", "--trainer.logger.save_dir", str(outside))
    folder = next(outside.rglob("events.*")).parent
    theirs, ours = _read_events(folder), _read_events(run)
    for name, values in compute_scalars(run).items():
        assert [(scalar.step, scalar.value) for scalar in theirs.Scalars(name)] == [
            (scalar.step, scalar.value) for scalar in ours.Scalars(name)
        ]
        assert [scalar.value for scalar in theirs.Scalars(name)] == pytest.approx(values, rel=1e-6)
    assert theirs.Scalars("final/test_accuracy")[-1].value == ours.Scalars("final/test_accuracy")[-1].value
    assert yaml.safe_load((folder / "hparams.yaml").read_text())["model.loss.aux_weight"] == 0.5


def fit_in_subprocess(options: list[str], root: Path, settings: str) -> Path:
    """Fit in a new process, since some loggers keep threads running and warn; return the run folder."""
    root.mkdir()
    (root / "loggers.yaml").write_text(settings)
    files = ["--config", str(CONFIGS / "fc_aux.yaml"), "--config", str(root / "loggers.yaml"), "--name", "apart"]
    options = [*options, "--trainer.default_root_dir", str(root), "--trainer.devices", "1"]
    command = [sys.executable, "-m", "pairs_lit", "fit", *files, *options]
    environment = os.environ | {"MLFLOW_ALLOW_FILE_STORE": "true", "WANDB_MODE": "offline"}
    process = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    (run,) = root.glob("lightning_logs/apart/*")
    return run


def test_mlflow_gets_the_same(tiny_options: list[str], outside: Path) -> None:
    if find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed (mlflow-skinny is enough)")
    store = outside / "store"
    settings = {"class_path": f"{LOGGERS}.MLFlowLogger", "init_args": {"tracking_uri": f"file:{store}"}}
    run = fit_in_subprocess(tiny_options, outside, yaml.safe_dump({"trainer": {"logger": [settings]}}))
    (metrics,) = store.glob("*/*/metrics")
    for name, values in compute_scalars(run).items():
        lines = [line.split() for line in (metrics / name).read_text().splitlines()]
        assert [int(step) for _, _, step, *_ in lines] == [1, 2]
        assert [float(value) for _, value, *_ in lines] == pytest.approx(values, rel=1e-12)
    assert (metrics / "final" / "test_accuracy").is_file()
    assert (metrics.parent / "params" / "model.loss.aux_weight").read_text() == "0.5"
    assert (metrics.parent / "params" / "data.source found").read_text() == "mnist (unverified)"


def test_weights_and_biases_gets_the_same(tiny_options: list[str], outside: Path) -> None:
    if find_spec("wandb") is None:
        pytest.skip("wandb is not installed")
    settings = {"class_path": f"{LOGGERS}.WandbLogger", "init_args": {"offline": True, "save_dir": str(outside)}}
    run = fit_in_subprocess(tiny_options, outside, yaml.safe_dump({"trainer": {"logger": [settings]}}))
    (file,) = outside.glob("wandb/offline-run-*/run-*.wandb")
    content = file.read_bytes()  # a binary format of wandb, in which names and numbers are text
    for name, values in compute_scalars(run).items():
        texts = re.findall(name.encode() + rb"\x82\x01.([-+.e0-9]+)", content, re.DOTALL)  # 0x82 0x01, length, number
        assert sorted({float(text) for text in texts}) == pytest.approx(sorted(set(values)), rel=1e-12)
    for name in ("final/test_accuracy", "model.loss.aux_weight", "data.source found"):
        assert name.encode() in content


@pytest.mark.parametrize(
    ("logger", "message"),
    [
        ("lightning.pytorch.loggers.NoLogger", r"'lightning\.pytorch\.loggers' has no attribute 'NoLogger', got "),
        ("nowhere.Logger", r"trainer\.logger: No module named 'nowhere', got nowhere\.Logger"),
        ("NoSuchLogger", r"trainer\.logger: expected the class path of a subclass of Logger, .* got NoSuchLogger"),
        ("WandbLogger", r"trainer\.logger: WandbLogger: ModuleNotFoundError: .*pip install -U 'wandb"),
    ],
)
def test_a_missing_logger_is_a_short_error(
    logger: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if logger == "WandbLogger" and find_spec("wandb") is not None:
        pytest.skip("wandb is installed")
    options = ["--trainer.default_root_dir", str(tmp_path), "--trainer.logger", logger]
    assert main(["fit", "--config", "fc_aux", *options]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "loading PyTorch" not in line)
    assert re.search(message, line)
    assert "Iterable" not in line
    assert not list(tmp_path.iterdir())


class MetricsRecorder(Callback):
    """Records the callback metrics after each epoch."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def test_callback_metrics_contain_all_metrics_except_those_of_the_test_set(
    tiny_options: list[str], tmp_path: Path
) -> None:
    watching, arguments = MetricsRecorder(), [argument.removeprefix("--") for argument in tiny_options]
    options = dict(zip(arguments[::2], arguments[1::2], strict=True)) | {
        "trainer.default_root_dir": tmp_path,
        "trainer.devices": 1,
    }
    run = pairs_lit.fit("fc_aux", options, [watching])
    expected = {name: values for name, values in compute_scalars(run.folder).items() if not name.startswith("test/")}
    assert "val/accuracy/mean" in expected
    for epoch, metrics in enumerate(watching.metrics):
        assert metrics == pytest.approx({name: values[epoch] for name, values in expected.items()}, rel=1e-5)


def test_error_for_early_stopping_suggests_alternatives(capsys: pytest.CaptureFixture[str]) -> None:
    stopping = "lightning.pytorch.callbacks.EarlyStopping"
    options = ["--trainer.callbacks", stopping, "--trainer.callbacks.monitor", "val/accuracy/mean"]
    assert main(["fit", "--config", "fc_aux", *options]) == 2
    error = capsys.readouterr().err
    assert "EarlyStopping would couple rounds: the end of each would depend on all of them. Remove it. Inst" in error
    assert "ModelCheckpoint that monitors val/accuracy/mean" in error


@pytest.mark.parametrize(("before", "separator"), [("C:\\runs\\checkpoints", "\\"), ("/runs/checkpoints", "/")])
def test_paths_of_a_moved_run_are_adapted(before: str, separator: str) -> None:
    now = Path("/here/checkpoints")
    state = {
        "dirpath": before,
        "best_k_models": {separator.join([before, "val", "epoch=1.ckpt"]): 0.5},
        "last": "",
        "other": f"{before}-2",
    }
    moved = {
        "dirpath": str(now),
        "best_k_models": {str(now / "val" / "epoch=1.ckpt"): 0.5},
        "last": "",
        "other": f"{before}-2",
    }
    assert _move_paths(state, parse_stored_path(before), now) == moved
