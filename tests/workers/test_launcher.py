"""Tests that workers started by srun, torchrun, the user or the command itself give the same tables."""

import json
import multiprocessing
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from pairs_lit.cli import main
from pairs_lit.errors import Stopped
from pairs_lit.workers.communication import LOOPBACK
from pairs_lit.workers.launcher import Launcher
from tests.support.worker_runs import (
    MOODY_OPTIONS,
    SCRIPT,
    BuildArguments,
    build_srun_environment,
    check_same,
    find_free_port,
    find_run,
    needs_linux,
    read_lines,
    resume_arguments,
    run_command,
    run_fit,
    set_torchrun_environment,
    start_command,
    worker_options,
)

pytestmark = needs_linux


@pytest.mark.slow
def test_srun_tasks_give_the_same_tables_in_one_run_folder(order: BuildArguments, alone: Path, tmp_path: Path) -> None:
    port, arguments = find_free_port(), order(tmp_path)
    with (
        start_command(arguments, tmp_path / "first", build_srun_environment(0, port)) as first,
        start_command(arguments, tmp_path / "second", build_srun_environment(1, port)) as second,
    ):
        pass
    assert (first.exitcode, second.exitcode) == (0, 0)
    check_same(find_run(tmp_path), alone)
    assert "test accuracy" in (tmp_path / "first").read_text()
    assert read_lines(tmp_path / "second") == []
    assert json.loads((find_run(tmp_path) / "summary.json").read_text())["workers"] == 2


@pytest.mark.slow
def test_torchrun_gives_the_same_tables_and_prints_once(order: BuildArguments, alone: Path, tmp_path: Path) -> None:
    torchrun = [str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc_per_node", "2", SCRIPT]
    done = subprocess.run([*torchrun, *order(tmp_path)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run: ") == 1
    assert done.stderr.count("loading PyTorch") == 1
    check_same(find_run(tmp_path), alone)
    again = subprocess.run([*torchrun, *resume_arguments(find_run(tmp_path), "predict")], check=False, timeout=120)
    assert again.returncode == 0
    assert main([*resume_arguments(alone, "predict")]) == 0
    check_same(find_run(tmp_path), alone, ["predictions.csv"])


@pytest.mark.slow
def test_two_nodes_give_the_same_tables(order: BuildArguments, alone: Path, tmp_path: Path) -> None:
    torchrun, port = str(Path(sys.executable).parent / "torchrun"), find_free_port()
    nodes = [
        subprocess.Popen(
            [
                *(torchrun, "--nnodes", "2", "--node_rank", str(node), "--nproc_per_node", "1"),
                *("--master_addr", LOOPBACK, "--master_port", str(port), SCRIPT, *order(tmp_path)),
            ]
        )
        for node in range(2)
    ]
    assert [node.wait(120) for node in nodes] == [0, 0]
    check_same(find_run(tmp_path), alone)
    summary = json.loads((find_run(tmp_path) / "summary.json").read_text())
    assert (summary["workers"], summary["nodes"]) == (2, 2)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.slow
def test_workers_that_rerun_the_command_give_the_same_tables(
    order: BuildArguments, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr("pairs_lit.workers.strategy.can_fork", lambda device: False)
    check_same(run_fit(order(tmp_path, *worker_options(count)), tmp_path), alone)


@pytest.mark.slow
def test_error_in_a_worker_that_reruns_the_command_is_one_line(
    order: BuildArguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pairs_lit.workers.strategy.can_fork", lambda device: False)
    assert main(order(tmp_path, *worker_options(2), *MOODY_OPTIONS, "raise")) == 1
    *_, line = capfd.readouterr().err.splitlines()  # preceded by the notice that this network trains as copies
    assert re.fullmatch(
        r"pairs-lit: error: ArithmeticError: the second worker has no idea \(worker_parts\.py:\d+\)", line
    )
    assert main(order(tmp_path, *worker_options(2), *MOODY_OPTIONS, "segfault")) == 2
    assert "was killed by SIGSEGV" in capfd.readouterr().err


@pytest.mark.slow
def test_script_without_main_guard_gets_a_hint(order: BuildArguments, tmp_path: Path) -> None:
    arguments = [argument.removeprefix("--") for argument in order(tmp_path / "runs", *worker_options(2))[3:]]
    script = tmp_path / "script.py"
    script.write_text(
        "import pairs_lit\n"
        "import pairs_lit.workers.strategy\n"
        "pairs_lit.workers.strategy.can_fork = lambda device: False\n"
        f"pairs_lit.fit('fc_aux', {dict(zip(arguments[::2], arguments[1::2], strict=True))!r})\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert 'does the script call pairs_lit.fit outside if __name__ == "__main__"?' in done.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


def test_leftover_local_rank_is_ignored(order: BuildArguments, alone: Path, tmp_path: Path) -> None:
    assert run_command(order(tmp_path, *worker_options(2)), tmp_path / "said", {"LOCAL_RANK": "0"}) == 0
    check_same(find_run(tmp_path), alone)


def test_workers_started_by_the_user_give_the_same_tables(order: BuildArguments, alone: Path, tmp_path: Path) -> None:
    meeting, arguments = {"MASTER_PORT": str(find_free_port())}, order(tmp_path, *worker_options(2))
    with (
        start_command(arguments, tmp_path / "first", meeting | {"LOCAL_RANK": "0"}) as first,
        start_command(arguments, tmp_path / "second", meeting | {"LOCAL_RANK": "1"}) as second,
    ):
        pass
    assert (first.exitcode, second.exitcode) == (0, 0)
    check_same(find_run(tmp_path), alone)


def test_unsupported_launcher_is_rejected(
    order: BuildArguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    assert main(order(tmp_path)) == 2
    assert "OMPI_COMM_WORLD_RANK is 1: this is one of several processes, but neither" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_reproduce_rejects_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_torchrun_environment(monkeypatch, 2, 2)
    assert main(["reproduce", "belhadj", "--runs", str(tmp_path / "runs")]) == 2
    line = capsys.readouterr().err.splitlines()[-1]  # a notice about changed files may precede it
    assert "was started in several processes. Start it once; its fits use all cores" in line
    assert not list(tmp_path.glob("runs/lightning_logs/*/*"))


def test_signal_between_two_worker_starts_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    forks: Any = multiprocessing.get_context("fork").Process
    start, started_workers = forks.start, []

    def start_once(self: BaseProcess) -> None:
        if started_workers:
            raise Stopped(signal.SIGTERM)
        start(self)
        started_workers.append(self)

    monkeypatch.setattr(forks, "start", start_once)
    launcher = Launcher(3, lambda: nullcontext(0), lambda _: time.sleep(60), None)
    with pytest.raises(Stopped):
        launcher.launch(lambda: None)
    (worker,) = started_workers
    worker.join(5)
    assert worker.exitcode == -signal.SIGKILL
