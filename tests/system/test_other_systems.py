"""Tests that commands work without what Windows and macOS lack (see tests/support/other_systems.py)."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CONFIGS
from tests.support.worker_runs import check_same, find_run, list_group, needs_linux, wait_for, wait_for_checkpoint

pytestmark = needs_linux
ROOT = CONFIGS.parent
SYSTEMS = ("win32", "darwin")


def build_command(system: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "tests.support.other_systems", system, *map(str, arguments)]


def build_fit(folder: Path, workers: int, *options: str) -> list[str]:
    common = (
        "--data.source digits --data.train_pairs 60 --data.val_pairs 40 --data.test_pairs 40 --rounds.count 4 "
        f"--rounds.stack_size 2 --trainer.max_epochs 2 --trainer.devices {workers} "
        f"--trainer.default_root_dir {folder} --trainer.enable_progress_bar false"
    )
    return ["fit", "--config", "fc_aux", *common.split(), *options]


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def on_linux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a fit with one process, on Linux."""
    folder = tmp_path_factory.mktemp("linux")
    run(sys.executable, "-m", "pairs_lit", *build_fit(folder, 1))
    return find_run(folder)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.quick(2)
def test_fit_on_another_system_gives_the_same_tables(system: str, workers: int, on_linux: Path, tmp_path: Path) -> None:
    run(*build_command(system, *build_fit(tmp_path, workers)))
    check_same(find_run(tmp_path), on_linux)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.slow
def test_other_commands_work_on_another_system(system: str, on_linux: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("rounds: {count: 4}\nspace:\n  model.loss.aux_weight: [0.2, 0.5]\n")
    options = [option for option in build_fit(tmp_path, 2)[1:] if option not in ("--rounds.count", "4")]
    commands = [
        ["test", str(on_linux)],
        ["fit", str(on_linux), "--trainer.max_epochs", "3", "--trainer.devices", "2"],
        ["inspect", str(on_linux)],
        ["compare", str(on_linux), str(on_linux), "--figure", str(tmp_path / "rounds.png")],
        ["export", str(on_linux), "--to", "state_dict", "--output", str(tmp_path / "exported")],
        ["sweep", *options, "--sweep", str(sweep)],
    ]
    run(*build_command(system, *(word for command in commands for word in ("+", *command))))
    assert (on_linux / "inspect" / "report.md").is_file()
    assert list(tmp_path.glob("lightning_logs/*/report.md"))


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.slow
def test_workers_on_another_system_end_with_worker_0(system: str, tmp_path: Path) -> None:
    fit = build_fit(tmp_path, 2, "--trainer.max_epochs", "100000")
    with subprocess.Popen(build_command(system, *fit), cwd=ROOT, start_new_session=True) as process:
        try:
            wait_for_checkpoint(tmp_path)
            assert len(list_group(process.pid)) >= 2
            process.kill()
            wait_for(lambda: not list_group(process.pid), 10)
        finally:
            for pid in list_group(process.pid):
                os.kill(pid, signal.SIGKILL)
