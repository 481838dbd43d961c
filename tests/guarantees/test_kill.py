"""Runs that are killed at any moment and resumed end with the same tables as an undisturbed run."""

import json
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pairs_lit.checkpoints.files import read_checkpoint
from pairs_lit.runs.tables import read_curves, read_rounds
from tests.conftest import CONFIGS
from tests.support import kill_targets

TABLES = ("rounds.csv", "curves.csv")
EPOCHS = 3
Order = Callable[[Path], list[str]]


@pytest.fixture(scope="module")
def order(tiny_root: Path) -> Order:
    """Return the arguments of a small fit with dropout, batch norm and a scheduler, all of which have state."""

    def arguments(root: Path) -> list[str]:
        options = (
            f"--data.root {tiny_root} --data.source mnist --data.allow_unverified true --data.train_pairs 40 "
            "--data.val_pairs 20 --data.test_pairs 30 --data.batch_size 16 --rounds.count 3 --rounds.stack_size 2 "
            f"--trainer.max_epochs {EPOCHS} --trainer.default_root_dir {root} --trainer.enable_progress_bar false "
            "--trainer.devices 1 "  # killed workers are tested in tests/workers
            "--model.backbone.dropout 0.2 --model.backbone.batch_norm [maps] --model.lr_scheduler.step_size 1 "
        )
        scheduler = ["--model.lr_scheduler", "torch.optim.lr_scheduler.StepLR"]
        return ["fit", "--config", str(CONFIGS / "cnn_aux.yaml"), *scheduler, *options.split()]

    return arguments


@pytest.fixture(scope="module")
def whole(order: Order, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an undisturbed fit."""
    root = tmp_path_factory.mktemp("whole")
    assert kill_targets.run_command(order(root)) == 0
    (run,) = root.glob("lightning_logs/*/*")
    return run


def check_files_are_complete(root: Path, whole: Path) -> None:
    """Check that every file under its final name is complete."""
    for run in root.glob("lightning_logs/*/*"):
        for table in TABLES:
            if (run / table).exists():
                assert (run / table).read_bytes() == (whole / table).read_bytes()
        if (run / "checkpoints" / "last.ckpt").exists():
            assert read_checkpoint(run / "checkpoints" / "last.ckpt")["epoch"] in range(EPOCHS)
        if (run / "summary.json").exists():
            assert json.loads((run / "summary.json").read_text())["epochs"] == EPOCHS
            assert read_rounds(run / "rounds.csv")
            assert read_curves(run / "curves.csv").epochs == EPOCHS
        if (run / "config.yaml").exists():
            assert yaml.safe_load((run / "config.yaml").read_text())["rounds"]["count"] == 3


def resume_or_restart(root: Path, first: list[str]) -> Path:
    """Follow the documentation after a kill: resume from the checkpoint, or start again if there is none."""
    checkpoints = list(root.glob("lightning_logs/*/*/checkpoints/last.ckpt"))
    if not checkpoints:
        before = set(root.glob("lightning_logs/*/*"))
        assert kill_targets.run_command(first) == 0
        (run,) = set(root.glob("lightning_logs/*/*")) - before
        return run
    (last,) = checkpoints
    run = last.parent.parent
    assert kill_targets.run_command(["fit", "--config", str(run / "config.yaml"), "--ckpt_path", str(last)]) == 0
    return run


def check_same(run: Path, whole: Path) -> None:
    for table in TABLES:
        assert (run / table).read_bytes() == (whole / table).read_bytes()
    names = {path.name for path in run.rglob("*") if "events" not in path.name}
    assert names == {path.name for path in whole.rglob("*") if "events" not in path.name}
    expected = json.loads((whole / "summary.json").read_text())
    assert json.loads((run / "summary.json").read_text()) | {"times": expected["times"]} == expected


WRITES = 2 + EPOCHS + 3  # the run's identity, the config, one checkpoint per epoch, and three tables


@pytest.mark.parametrize("write", range(WRITES))
@pytest.mark.parametrize("stage", range(len(kill_targets.KILL_STAGES)), ids=kill_targets.KILL_STAGES)
@pytest.mark.slow
def test_killed_during_a_write(order: Order, whole: Path, tmp_path: Path, write: int, stage: int) -> None:
    assert (
        kill_targets.run_command(order(tmp_path), dies_at=len(kill_targets.KILL_STAGES) * write + stage)
        == -signal.SIGKILL
    )
    check_files_are_complete(tmp_path, whole)
    check_same(resume_or_restart(tmp_path, order(tmp_path)), whole)


@pytest.mark.slow
def test_number_of_writes(order: Order, whole: Path, tmp_path: Path) -> None:
    assert kill_targets.run_command(order(tmp_path), dies_at=len(kill_targets.KILL_STAGES) * WRITES) == 0


@pytest.mark.slow
def test_killed_at_six_random_moments(order: Order, whole: Path, tmp_path: Path) -> None:
    seconds = kill_targets.measure_duration(order(tmp_path / "clock"))
    moments = random.Random(20).choices(range(1000), k=6)
    for place, moment in enumerate(moments):
        root = tmp_path / str(place)
        root.mkdir()
        kill_targets.run_and_kill(order(root), seconds * moment / 1000)
        check_files_are_complete(root, whole)
        check_same(resume_or_restart(root, order(root)), whole)


@pytest.mark.slow
def test_killed_repeatedly_it_still_finishes(order: Order, whole: Path, tmp_path: Path) -> None:
    assert kill_targets.run_command(order(tmp_path), dies_at=8) == -signal.SIGKILL
    (last,) = tmp_path.glob("lightning_logs/*/*/checkpoints/last.ckpt")
    run = last.parent.parent
    again = ["fit", "--config", str(run / "config.yaml"), "--ckpt_path", str(last)]
    for _ in range(EPOCHS - 1):
        assert kill_targets.run_command(again, dies_at=5) == -signal.SIGKILL
    assert kill_targets.run_command(again) == 0
    check_same(run, whole)
