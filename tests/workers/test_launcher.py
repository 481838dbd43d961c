"""Tests that workers started by srun, torchrun, the user or the command itself give the same tables."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from lightning.pytorch import Callback

import pairs_lit
from pairs_lit.cli import main
from pairs_lit.errors import PairsLitError, Stopped
from pairs_lit.workers.launcher import Launcher, _receive_failure
from pairs_lit.workers.network import LOOPBACK
from tests.support.worker_runs import (
    EVALUATION_COMMANDS,
    LONG_OPTIONS,
    MOODY_OPTIONS,
    SCRIPT,
    STATEFUL_OPTIONS,
    TABLES,
    BuildArguments,
    build_srun_environment,
    check_none_left,
    check_same,
    check_same_checkpoint,
    find_free_port,
    find_run,
    needs_linux,
    read_lines,
    resume_arguments,
    run_command,
    run_fit,
    set_torchrun_environment,
    start_command,
    wait_for_checkpoint,
    worker_options,
)

pytestmark = needs_linux
SPAWN = ("--rounds.start_method", "spawn")


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
@pytest.mark.quick(1)
def test_spawned_workers_give_the_same_tables(order: BuildArguments, alone: Path, tmp_path: Path, count: int) -> None:
    check_same(run_fit(order(tmp_path, *worker_options(count), *SPAWN), tmp_path), alone)


@pytest.mark.slow
def test_workers_are_spawned_where_processes_cannot_be_forked(
    order: BuildArguments, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairs_lit.workers.strategy.can_fork", lambda: False)
    monkeypatch.setattr(multiprocessing.get_context("fork"), "Process", None)
    check_same(run_fit(order(tmp_path, *worker_options(2)), tmp_path), alone)


def test_fork_is_rejected_where_it_is_not_safe(
    order: BuildArguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pairs_lit.workers.strategy.can_fork", lambda: False)
    assert main(order(tmp_path, *worker_options(2), "--rounds.start_method", "fork")) == 2
    assert "rounds.start_method must be spawn or null, got fork, but this operating" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_spawned_workers_resume_and_evaluate_as_one_process_does(
    order: BuildArguments, alone: Path, stateful: Path, tmp_path: Path
) -> None:
    run = run_fit(order(tmp_path, *worker_options(2), *SPAWN, "--trainer.max_epochs", "2"), tmp_path)
    assert main([*resume_arguments(run), "--trainer.max_epochs", "3"]) == 0
    check_same(run, alone)
    both = order(tmp_path / "b", *STATEFUL_OPTIONS, *worker_options(2), *SPAWN, config="cnn_aux")
    second = run_fit(both, tmp_path / "b")
    for command in EVALUATION_COMMANDS:
        assert main(resume_arguments(second, command)) == 0
    check_same(second, stateful, TABLES)
    check_same_checkpoint(second, stateful)


@pytest.mark.slow
def test_error_in_a_spawned_worker_is_one_line(
    order: BuildArguments, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(order(tmp_path, *worker_options(2), *SPAWN, *MOODY_OPTIONS, "raise")) == 1
    *_, line = capfd.readouterr().err.splitlines()  # preceded by the notice that this network trains as copies
    assert re.fullmatch(
        r"pairs-lit: error: ArithmeticError: the second worker has no idea \(worker_parts\.py:\d+\)", line
    )
    assert main(order(tmp_path, *worker_options(2), *SPAWN, *MOODY_OPTIONS, "segfault")) == 2
    assert "was killed by SIGSEGV" in capfd.readouterr().err


@pytest.mark.slow
def test_spawned_workers_end_if_rank_0_is_killed(order: BuildArguments, tmp_path: Path) -> None:
    arguments = order(tmp_path, *LONG_OPTIONS, *worker_options(3), *SPAWN)
    with start_command(arguments, tmp_path / "said") as process:
        wait_for_checkpoint(tmp_path)
        os.kill(process.pid or 0, signal.SIGKILL)
        check_none_left(process, seconds=3)
    assert read_lines(tmp_path / "said") == []


SCRIPT_WITH_CLASSES = """
import json
import sys
from pathlib import Path

import pairs_lit
from lightning.pytorch import Callback
from pairs_lit.nn.backbones import FC


class Network(FC):
    pass


class CountEpochs(Callback):
    def __init__(self, folder):
        self.folder = folder

    def on_train_epoch_end(self, trainer, pl_module):
        with open(f"{self.folder}/worker{trainer.global_rank}", "a", encoding="utf-8") as file:
            file.write(".")


def train(folder, changes):
    changes = {**changes, "trainer.default_root_dir": folder, "model.backbone": Network}
    return pairs_lit.fit("fc_aux", changes, [CountEpochs(folder)])
"""


def build_changes(order: BuildArguments, *options: str) -> dict[str, str]:
    _, _, _, *arguments = [argument.removeprefix("--") for argument in order(Path("unused"), *options)]
    return dict(zip(arguments[::2], arguments[1::2], strict=True))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.quick(2)
def test_script_with_main_guard_trains_its_classes_with_its_callbacks(
    order: BuildArguments, alone: Path, tmp_path: Path, method: str
) -> None:
    changes = build_changes(order, *worker_options(2), "--rounds.start_method", method)
    script = tmp_path / "script.py"
    script.write_text(f"{SCRIPT_WITH_CLASSES}\nif __name__ == '__main__':\n    train({str(tmp_path)!r}, {changes!r})\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    check_same(find_run(tmp_path), alone)
    assert [(tmp_path / f"worker{rank}").read_text() for rank in range(2)] == ["...", "..."]


@pytest.mark.slow
def test_notebook_trains_its_classes_with_spawned_workers(order: BuildArguments, alone: Path, tmp_path: Path) -> None:
    changes = build_changes(order, *worker_options(2), *SPAWN)
    cells = [SCRIPT_WITH_CLASSES, f"train({str(tmp_path)!r}, {changes!r})"]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    nbclient.execute(notebook, timeout=120)
    check_same(find_run(tmp_path), alone)
    assert [(tmp_path / f"worker{rank}").read_text() for rank in range(2)] == ["...", "..."]


@pytest.mark.slow
def test_sweep_with_spawned_workers_gives_the_same_tables(order: BuildArguments, tmp_path: Path) -> None:
    spec = {"space": {"model.loss.aux_weight": [0.2, 0.5]}, "rounds": {"count": 4}}
    tables = []
    for method in ("fork", "spawn"):
        changes = build_changes(order, *worker_options(2), "--rounds.start_method", method)
        del changes["rounds.count"]
        root = tmp_path / method
        pairs_lit.sweep("fc_aux", spec, changes | {"trainer.default_root_dir": str(root)})
        tables.append([path.read_bytes() for path in sorted(root.glob("lightning_logs/sweep/0*/rounds.csv"))])
    assert tables[0] == tables[1]
    assert len(tables[0]) == 2


@pytest.mark.slow
def test_object_that_cannot_be_sent_to_a_new_process_is_named(order: BuildArguments, tmp_path: Path) -> None:
    class Locked(Callback):
        lock = threading.Lock()

    changes = build_changes(order, *worker_options(2), *SPAWN) | {"trainer.default_root_dir": str(tmp_path)}
    with pytest.raises(PairsLitError, match=r"workers cannot be started as new processes, because an object cannot be"):
        pairs_lit.fit("fc_aux", changes, [Locked()])
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_script_without_main_guard_gets_a_hint(order: BuildArguments, tmp_path: Path) -> None:
    changes = build_changes(order, *worker_options(2), *SPAWN) | {"trainer.default_root_dir": str(tmp_path / "runs")}
    script = tmp_path / "script.py"
    script.write_text(f"import pairs_lit\npairs_lit.fit('fc_aux', {changes!r})\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 1
    assert 'does the script call pairs_lit.fit outside if __name__ == "__main__"?). Put' in done.stderr.splitlines()[-1]
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
    start = forks.start
    started_workers: list[BaseProcess] = []

    def start_once(self: BaseProcess) -> None:
        if started_workers:
            raise Stopped(signal.SIGTERM)
        start(self)
        started_workers.append(self)

    monkeypatch.setattr(forks, "start", start_once)
    launcher = Launcher(3, "fork", lambda channel: time.sleep(60 * (channel is not None)), None)
    with pytest.raises(Stopped):
        launcher.launch(lambda: None)
    (worker,) = started_workers
    worker.join(5)
    assert worker.exitcode == -signal.SIGKILL


def test_worker_that_cannot_be_started_is_reported_and_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    forks: Any = multiprocessing.get_context("fork").Process

    def fail(self: BaseProcess) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(forks, "start", fail)
    launcher = Launcher(2, "fork", lambda channel: None, None)
    with pytest.raises(PairsLitError, match=r"worker 1 could not be started \(BlockingIOError: .*unavailable\)\."):
        launcher.launch(lambda: None)
    assert not multiprocessing.active_children()


def test_end_of_a_killed_worker_is_reported_where_its_broken_pipe_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    class BrokenReceiver:
        def poll(self) -> bool:
            raise BrokenPipeError(109, "The pipe has been ended")  # as on Windows

    process = multiprocessing.get_context("fork").Process(target=os.kill, args=(0, 0))
    monkeypatch.setattr(type(process), "exitcode", -signal.SIGKILL)
    receiver: Any = BrokenReceiver()
    failure = _receive_failure(1, process, receiver, "")
    assert re.search(r"worker 1 \(process None\) was killed by SIGKILL \(out of memory\?\)\. Progress", str(failure))
