import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock

from pairs_lit.cli import main
from pairs_lit.runs.tables import read_curves, read_rounds
from tests.conftest import Fit
from tests.support.runs import build_checkpoint_arguments


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tiny_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that all tests share and must not change."""
    root = tmp_path_factory.mktemp("trained")
    assert main(["fit", "--config", "cnn_aux", *tiny_options, "--trainer.default_root_dir", str(root)]) == 0
    return next(root.glob("lightning_logs/*/*"))


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that the test may change."""
    return shutil.copytree(trained, tmp_path / "lightning_logs" / trained.parent.name / trained.name)


def test_files_of_a_run_folder(trained: Path) -> None:
    files = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    tables = {"rounds.csv", "curves.csv", "summary.json"}
    assert files - events == tables | {".lock", ".run", "config.yaml", "checkpoints/last.ckpt"}


def test_the_same_command_twice_gives_bit_identical_tables(trained: Path, fit: Fit) -> None:
    again = fit()
    for name in ("rounds.csv", "curves.csv"):
        assert (again / name).read_bytes() == (trained / name).read_bytes()


def test_rounds_are_the_same_alone_or_with_others(fit: Fit) -> None:
    together = read_curves(fit("--trainer.precision", "64-true") / "curves.csv")
    for stack_size in ("1", "2"):
        stacked = fit("--trainer.precision", "64-true", "--rounds.stack_size", stack_size)
        for name, values in read_curves(stacked / "curves.csv").values.items():
            np.testing.assert_allclose(values, together.values[name], rtol=0, atol=1e-9)
    alone = fit("--trainer.precision", "64-true", "--rounds.count", "1", "--rounds.seed", "2")
    for name, values in read_curves(alone / "curves.csv").values.items():
        np.testing.assert_allclose(values[:, 0], together.values[name][:, 2], rtol=0, atol=1e-9)


def test_curves_hold_every_metric_of_every_split(trained: Path) -> None:
    curves = read_curves(trained / "curves.csv")
    metrics = ("loss", "target_loss", "digit_loss", "accuracy", "digit_accuracy")
    assert set(curves.values) == {f"{split}/{metric}" for split in ("train", "val", "test") for metric in metrics}
    total = curves.values["val/target_loss"] + 0.5 * curves.values["val/digit_loss"]
    np.testing.assert_allclose(curves.values["val/loss"], total, rtol=1e-5)


def test_the_tables_agree_with_each_other(trained: Path) -> None:
    curves, rounds = read_curves(trained / "curves.csv"), read_rounds(trained / "rounds.csv")
    test = curves.values["test/accuracy"]
    assert [result.test_accuracy for result in rounds] == test[-1].tolist()
    assert [result.best_test_accuracy for result in rounds] == test.max(0).tolist()
    assert [result.best_test_epoch for result in rounds] == (test.argmax(0) + 1).tolist()
    summary = json.loads((trained / "summary.json").read_text())
    accuracy = summary["metrics"]["test_accuracy"]
    assert accuracy["n"] == 3
    assert accuracy["mean"] == pytest.approx(test[-1].mean(), abs=1e-12)
    assert accuracy["std"] == pytest.approx(test[-1].std(ddof=1), abs=1e-12)
    assert summary["data"]["source"] == "mnist (unverified)"


def test_the_terminal_shows_the_table_the_source_and_the_folder(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit()
    captured = capsys.readouterr()
    assert "3 rounds (seeds 0 to 2), 2 epochs, 1,781 parameters per round; data: mnist (unverified)" in captured.out
    mean = np.mean([result.test_accuracy for result in read_rounds(run / "rounds.csv")])
    (line,) = [line for line in captured.out.splitlines() if line.startswith("test accuracy")]
    assert line.split()[2:4] == ["3", f"{mean:.4f}"]
    assert captured.out.rstrip().endswith(f"run: {run}")
    assert captured.err == ""


def test_test_reproduces_the_final_metrics_exactly(run: Path) -> None:
    assert main(["test", *build_checkpoint_arguments(run)]) == 0
    rounds = read_rounds(run / "rounds.csv")
    tested = _rows(run / "test.csv")
    assert [float(row["test_accuracy"]) for row in tested] == [result.test_accuracy for result in rounds]
    assert [float(row["test_digit_accuracy"]) for row in tested] == [result.test_digit_accuracy for result in rounds]
    losses = read_curves(run / "curves.csv").values["test/loss"][-1]
    assert [float(row["test_loss"]) for row in tested] == losses.tolist()


def test_validate_reproduces_the_final_metrics_exactly(run: Path) -> None:
    assert main(["validate", *build_checkpoint_arguments(run)]) == 0
    expected = [result.val_accuracy for result in read_rounds(run / "rounds.csv")]
    rows = _rows(run / "validate.csv")
    assert [float(row["val_accuracy"]) for row in rows] == expected
    assert not any(name.startswith("test") for name in rows[0])


def test_evaluation_changes_no_file_of_the_run(fit: Fit) -> None:
    run = fit("--model.backbone.batch_norm", "[maps, hidden]")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for command in ("test", "validate", "predict"):
        assert main([command, *build_checkpoint_arguments(run)]) == 0
    assert {path: path.read_bytes() for path in before} == before


def test_predict_writes_every_rounds_probability_of_common_pairs(run: Path) -> None:
    assert main(["predict", *build_checkpoint_arguments(run)]) == 0
    rows = _rows(run / "predictions.csv")
    assert list(rows[0]) == ["pair", "first_digit", "second_digit", "target", "mean", "seed_0", "seed_1", "seed_2"]
    assert [int(row["pair"]) for row in rows] == list(range(30))
    for row in rows:
        assert int(row["target"]) == (int(row["first_digit"]) <= int(row["second_digit"]))
        p = [float(row[f"seed_{seed}"]) for seed in range(3)]
        assert float(row["mean"]) == pytest.approx(np.mean(p))
    correct = [(float(row["seed_0"]) > 0.5) == bool(int(row["target"])) for row in rows]
    first = read_rounds(run / "rounds.csv")[0]
    assert np.mean(correct) == pytest.approx(first.test_accuracy)


def test_predictions_do_not_depend_on_the_stack_size(fit: Fit) -> None:
    tables = []
    for stack_size in ("3", "2"):
        run = fit("--trainer.precision", "64-true", "--rounds.stack_size", stack_size)
        assert main(["predict", *build_checkpoint_arguments(run)]) == 0
        tables.append([[float(value) for value in row.values()] for row in _rows(run / "predictions.csv")])
    np.testing.assert_allclose(tables[0], tables[1], atol=1e-9)


def test_fit_resumes_from_a_checkpoint_in_its_run_folder(fit: Fit) -> None:
    whole, part = fit("--trainer.max_epochs", "3"), fit("--trainer.max_epochs", "1")
    assert main(["fit", *build_checkpoint_arguments(part), "--trainer.max_epochs", "3"]) == 0
    for name in ("rounds.csv", "curves.csv"):
        assert (part / name).read_bytes() == (whole / name).read_bytes()


def test_a_run_folder_stands_for_its_config_and_last_checkpoint(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    whole, part = fit("--trainer.max_epochs", "3"), fit("--trainer.max_epochs", "1")
    assert main(["fit", str(part), "--trainer.max_epochs", "3"]) == 0
    assert (part / "curves.csv").read_bytes() == (whole / "curves.csv").read_bytes()
    for command in ("test", "validate", "predict"):
        assert main([command, str(part)]) == 0
    tested = [float(row["test_accuracy"]) for row in _rows(part / "test.csv")]
    assert tested == [result.test_accuracy for result in read_rounds(whole / "rounds.csv")]
    assert main(["fit", str(part), "--ckpt_path", "null", "--trainer.max_epochs", "1"]) == 0
    assert len(list(part.parent.iterdir())) == 3
    capsys.readouterr()
    assert main(["test", "cnn_aux"]) == 2
    assert "cnn_aux is not a run folder. To use a config, add --config cnn_aux." in capsys.readouterr().err


def test_the_config_of_a_run_is_found_in_its_folder(run: Path, fit: Fit) -> None:
    again = fit(config=run)
    assert (again / "curves.csv").read_bytes() == (run / "curves.csv").read_bytes()


def test_resuming_restores_dropout_and_scheduler(fit: Fit) -> None:
    options = [
        "--model.backbone.dropout", "0.3",
        "--model.lr_scheduler", "torch.optim.lr_scheduler.StepLR",
        "--model.lr_scheduler.step_size", "1",
    ]  # fmt: skip
    whole, part = fit("--trainer.max_epochs", "3", *options), fit("--trainer.max_epochs", "1", *options)
    assert main(["fit", *build_checkpoint_arguments(part), "--trainer.max_epochs", "3"]) == 0
    assert (part / "curves.csv").read_bytes() == (whole / "curves.csv").read_bytes()


def test_command_line_overrides_the_config_on_resuming(fit: Fit) -> None:
    run = fit("--trainer.max_epochs", "1")
    assert (
        main(["fit", *build_checkpoint_arguments(run), "--trainer.max_epochs", "2", "--model.optimizer.lr", "0.5"]) == 0
    )
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["trainer"]["max_epochs"] == 2
    assert config["model"]["optimizer"]["init_args"]["lr"] == 0.5
    assert config["ckpt_path"] is None


STEP = ["--model.lr_scheduler", "torch.optim.lr_scheduler.StepLR", "--model.lr_scheduler.step_size", "1"]


@pytest.mark.parametrize("resumed", [[], STEP])
@pytest.mark.quick(1)
def test_new_learning_rate_applies_to_the_remaining_epochs(fit: Fit, resumed: list[str]) -> None:
    run = fit("--trainer.max_epochs", "1")
    assert (
        main(
            [
                "fit",
                *build_checkpoint_arguments(run),
                "--trainer.max_epochs",
                "3",
                "--model.optimizer.lr",
                "0.0",
                *resumed,
            ]
        )
        == 0
    )
    losses = read_curves(run / "curves.csv").values["test/loss"]
    np.testing.assert_array_equal(losses[1:], np.stack([losses[0], losses[0]]))


def test_new_schedule_counts_the_earlier_epochs(fit: Fit) -> None:
    options = ["--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "0.01"]
    run = fit("--trainer.max_epochs", "2", *options)
    with_schedule = [*STEP, "--model.lr_scheduler.gamma", "0.0"]
    assert main(["fit", *build_checkpoint_arguments(run), "--trainer.max_epochs", "3", *with_schedule]) == 0
    losses = read_curves(run / "curves.csv").values["test/loss"]
    assert (losses[1] != losses[0]).all()
    np.testing.assert_array_equal(losses[2], losses[1])


def test_resuming_with_another_config_keeps_the_previous_one(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit("--trainer.max_epochs", "1")
    former = (run / "config.yaml").read_text()
    assert main(["fit", *build_checkpoint_arguments(run), "--trainer.max_epochs", "2"]) == 0
    assert (run / "config-until-epoch-1.yaml").read_text() == former
    assert "resumes with another config from epoch 2" in capsys.readouterr().err
    assert main(["fit", *build_checkpoint_arguments(run)]) == 0
    assert len(list(run.glob("config-until*"))) == 1


def test_run_stopped_after_its_last_epoch_gets_its_tables(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = {name: (run / name).read_bytes() for name in ("rounds.csv", "curves.csv")}
    for name in (*tables, "summary.json"):
        (run / name).unlink()
    capsys.readouterr()
    assert main(["fit", *build_checkpoint_arguments(run)]) == 0
    assert {name: (run / name).read_bytes() for name in tables} == tables
    assert "test accuracy" in capsys.readouterr().out


def test_run_that_another_process_trains_is_not_changed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with FileLock(run / ".lock"):
        assert main(["fit", *build_checkpoint_arguments(run), "--trainer.max_epochs", "3"]) == 2
    assert f"{run} is being trained by another process" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert main(["fit", *build_checkpoint_arguments(run), "--trainer.max_epochs", "3"]) == 0


def test_temporary_files_of_a_killed_process_are_removed(run: Path) -> None:
    left = [run / f".rounds.csv.{'0' * 32}", run / "checkpoints" / f".last.ckpt.{'a' * 32}"]
    mine = run / ".mine"
    for path in (*left, mine):
        path.write_text("half")
    assert main(["fit", *build_checkpoint_arguments(run)]) == 0
    assert not any(path.exists() for path in left)
    assert mine.exists()


def test_rounds_at_chance_are_reported_and_stay_in_the_table(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    learning = ["--trainer.max_epochs", "8", "--data.normalise", "standard", "--model.optimizer.lr", "0.01"]
    run = fit("--model.backbone", "tests.support.user_parts.DeadForSeedOne", *learning)
    out = capsys.readouterr().out
    assert "1 of 3 rounds AT CHANCE" in out
    assert "seed 1): kept in the table." in out
    summary = json.loads((run / "summary.json").read_text())
    assert summary["rounds"]["at_chance"] == [1]
    assert summary["metrics"]["test_accuracy"]["n"] == 3


def test_failed_round_is_marked_and_does_not_change_others(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    breaking = ["--model.backbone", "tests.support.user_parts.BreaksForSeedOne"]
    run = fit(*breaking)
    out = capsys.readouterr().out
    assert "1 of 3 rounds FAILED (loss not finite; seed 1): left out of the table." in out
    rounds = read_rounds(run / "rounds.csv")
    assert [result.status for result in rounds] == ["ok", "failed", "ok"]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["rounds"]["failed"] == [1]
    assert summary["metrics"]["test_accuracy"]["n"] == 2
    alone = fit(*breaking, "--rounds.count", "1", "--rounds.seed", "2", "--rounds.stack_size", "1")
    np.testing.assert_allclose(
        read_curves(alone / "curves.csv").values["test/loss"][:, 0],
        read_curves(run / "curves.csv").values["test/loss"][:, 2],
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    "options",
    [
        ["--model.backbone", "tests.support.user_parts.TwoPaths"],
        [
            "--model.backbone", "tests.support.user_parts.TwoPaths", "--model.backbone.width", "12",
            "--model.readout", "linear",
        ],
        [
            "--model.backbone", "pairs_lit.nn.backbones.TorchModule",
            "--model.backbone.module", "torchvision.models.SqueezeNet",
            "--model.backbone.module.num_classes", "10",
            "--model.backbone.channels", "3",
            "--model.backbone.size", "32",
            "--rounds.count", "2",
            "--trainer.max_epochs", "1",
        ],
        ["--model.sharing", "separate"],
        ["--model.sharing", "joint", "--model.readout", "none", "--model.loss.digits", "none"],
        ["--model.head", "pairs_lit.nn.heads.PowerHead", "--model.loss.target", "mse"],
        ["--model.head", "pairs_lit.nn.heads.SoftmaxHead", "--model.loss.target", "ce", "--data.relation", "gt"],
        ["--model.head", "pairs_lit.nn.heads.ArgmaxHead", "--model.loss.target", "none"],
        ["--model.head.outputs", "2", "--model.loss.target", "ce", "--data.swap", "relabel"],
        ["--data.normalise", "standard", "--data.image_size", "28", "--data.swap", "flip"],
        ["--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "0.01", "--model.optimizer.momentum", "0.9"],
        ["--trainer.gradient_clip_val", "1.0", "--trainer.gradient_clip_algorithm", "value"],
        ["--data.source", "digits"],
    ],
    ids=lambda options: " ".join(option.rpartition(".")[2] for option in options[:4]),
)  # fmt: skip
@pytest.mark.quick(3)
def test_other_parts_plug_in_from_the_command_line(fit: Fit, options: list[str]) -> None:
    run = fit(*options)
    assert all(result.status == "ok" for result in read_rounds(run / "rounds.csv"))


def test_user_module_gives_the_same_round_alone_or_with_others(fit: Fit) -> None:
    options = ["--model.backbone", "tests.support.user_parts.TwoPaths", "--trainer.precision", "64-true"]
    together = read_curves(fit(*options) / "curves.csv").values["train/loss"]
    alone = fit(*options, "--rounds.count", "1", "--rounds.seed", "1")
    np.testing.assert_allclose(read_curves(alone / "curves.csv").values["train/loss"][:, 0], together[:, 1], atol=1e-9)


def test_fit_restores_the_generator_of_torch(fit: Fit) -> None:
    before = torch.get_rng_state()
    fit("--model.backbone", "tests.support.user_parts.TwoPaths")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_name_of_a_run_can_be_chosen_and_is_kept(fit: Fit) -> None:
    run = fit("--name", "mine")
    assert run.parent.name == "mine"
    assert yaml.safe_load((run / "config.yaml").read_text())["name"] == "mine"


def test_resuming_uses_the_stack_size_of_the_checkpoint(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit("--rounds.stack_size", "2", config="fc")  # a default of an earlier release, say
    config, checkpoint = run / "config.yaml", run / "checkpoints" / "last.ckpt"
    config.write_text(re.sub(r"stack_size: 2", "stack_size: null", config.read_text()))
    assert main(["test", "--config", str(config), "--ckpt_path", str(checkpoint)]) == 0
    assert main(["fit", "--config", str(config), "--ckpt_path", str(checkpoint), "--trainer.max_epochs", "3"]) == 0
    assert json.loads((run / "summary.json").read_text())["rounds"]["stack_size"] == 2
    assert "stack_size: null" in config.read_text()
    asked = ["--rounds.stack_size", "3", "--ckpt_path", str(checkpoint)]
    assert main(["test", "--config", str(config), *asked]) == 2
    assert "stack_size is 2 in the checkpoint and 3 in the config" in capsys.readouterr().err
