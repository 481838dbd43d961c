"""Tests that errors and signals in any worker end all workers, print one line, and leave nothing behind."""

import multiprocessing
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest

import pairs_lit
from pairs_lit.checkpoints import last_checkpoint as checkpoints
from pairs_lit.checkpoints.files import read_checkpoint
from pairs_lit.cli import main
from pairs_lit.errors import WorkerError
from tests.conftest import CONFIGS
from tests.support.worker_parts import MoodyCallback
from tests.support.worker_runs import (
    EVALUATION_COMMANDS,
    LONG_OPTIONS,
    MOODY_OPTIONS,
    RESUME_HINT,
    BuildArguments,
    check_none_left,
    check_same,
    find_listening_addresses,
    find_run,
    list_processes,
    needs_linux,
    read_lines,
    resume_arguments,
    run_command,
    run_fit,
    start_command,
    wait_for,
    wait_for_checkpoint,
    worker_options,
)

pytestmark = needs_linux


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (
            (*MOODY_OPTIONS, "raise"),
            1,
            r"ArithmeticError: the second worker has no idea \(worker_parts\.py:\d+\)",
        ),
        ((*MOODY_OPTIONS, "refuse"), 2, "leave it out"),
        ((*MOODY_OPTIONS, "segfault"), 2, rf"worker 1 \(process \d+\) was killed by SIGSEGV\. {RESUME_HINT}\."),
        ((*MOODY_OPTIONS, "exit"), 2, rf"worker 1 \(process \d+\) exited with code 7\. {RESUME_HINT}\."),
        (
            ("--trainer.callbacks", "[tests.support.worker_parts.MoodyCallback]"),
            1,
            r"ArithmeticError: the second worker has no idea \(worker_parts\.py:\d+\)",
        ),
        (
            (
                "--trainer.callbacks",
                "[{class_path: tests.support.worker_parts.MoodyCallback, init_args: {early: true}}]",
            ),
            1,
            r"ArithmeticError: the second worker has no idea \(worker_parts\.py:\d+\)",
        ),
    ],
    ids=[
        "module raises",
        "module raises PairsLitError",
        "module crashes",
        "module exits",
        "callback raises",
        "before they met",
    ],
)
@pytest.mark.quick(2)
def test_error_in_another_worker_is_reported_in_one_line(
    order: BuildArguments, tmp_path: Path, options: tuple[str, ...], code: int, message: str
) -> None:
    start = time.monotonic()
    assert run_command(order(tmp_path, *LONG_OPTIONS, *worker_options(2), *options), tmp_path / "said") == code
    (line,) = read_lines(tmp_path / "said")
    assert re.fullmatch(f"pairs-lit: error: {message}", line)
    assert time.monotonic() - start < 60  # far less than the limits of torch; a busy machine needs many seconds


@pytest.mark.parametrize("evaluation", EVALUATION_COMMANDS)
@pytest.mark.quick(1)
def test_error_in_a_worker_of_an_evaluation_is_reported_in_one_line(
    order: BuildArguments, alone: Path, tmp_path: Path, evaluation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = "[{class_path: tests.support.worker_parts.MoodyCallback, init_args: {early: true, kind: segfault}}]"
    arguments = [*resume_arguments(alone, evaluation), "--trainer.callbacks", early, *worker_options(2)]
    assert run_command(arguments, tmp_path / "said") == 2
    (line,) = read_lines(tmp_path / "said")
    assert "worker 1 (process" in line


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.quick(1)
def test_killed_worker_ends_the_command_and_the_run_resumes(
    order: BuildArguments, tmp_path: Path, number: signal.Signals
) -> None:
    with start_command(order(tmp_path, *LONG_OPTIONS, *worker_options(3)), tmp_path / "said") as process:
        wait_for_checkpoint(tmp_path)
        pids = list_processes(process)
        assert len(pids) == 3
        os.kill(pids[-1], number)
        process.join(10)
        assert process.exitcode == 2
    (line,) = read_lines(tmp_path / "said")
    outcome = "was killed by SIGKILL (out of memory?)" if number == signal.SIGKILL else "exited with code 143"
    assert re.fullmatch(
        rf"pairs-lit: error: worker \d \(process {pids[-1]}\) {re.escape(outcome)}\. {RESUME_HINT}\.", line
    )
    run = find_run(tmp_path)
    epoch = read_checkpoint(run / "checkpoints/last.ckpt")["epoch"]
    assert main([*resume_arguments(run), "--trainer.max_epochs", str(epoch + 2), *worker_options(2)]) == 0


def test_other_workers_end_if_rank_0_is_killed(order: BuildArguments, tmp_path: Path) -> None:
    with start_command(order(tmp_path, *LONG_OPTIONS, *worker_options(3)), tmp_path / "said") as process:
        wait_for_checkpoint(tmp_path)
        os.kill(process.pid or 0, signal.SIGKILL)
        check_none_left(process, seconds=3)
    assert read_lines(tmp_path / "said") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("all_of_them", [False, True], ids=["the command", "the terminal"])
@pytest.mark.quick(1)
def test_signal_ends_all_workers_in_one_line(
    order: BuildArguments, tmp_path: Path, number: signal.Signals, all_of_them: bool
) -> None:
    with start_command(order(tmp_path, *LONG_OPTIONS, *worker_options(3)), tmp_path / "said") as process:
        wait_for_checkpoint(tmp_path)
        (os.killpg if all_of_them else os.kill)(process.pid or 0, number)
        process.join(10)
        assert process.exitcode == 128 + number
    (line,) = read_lines(tmp_path / "said")
    assert line.startswith(f"pairs-lit: stopped by {number.name}. Progress was saved")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_signal_ends_a_worker_that_waits_for_a_slow_one(
    order: BuildArguments, tmp_path: Path, number: signal.Signals
) -> None:
    with start_command(order(tmp_path, *worker_options(2), *MOODY_OPTIONS, "sleep"), tmp_path / "said") as process:
        wait_for(lambda: list(tmp_path.glob("lightning_logs/*/*/config.yaml")))
        time.sleep(1.0)
        os.kill(process.pid or 0, number)
        process.join(10)
        assert process.exitcode == 128 + number
    assert len(read_lines(tmp_path / "said")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["the command", "the terminal", "a worker"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signal_at_any_moment_leaves_nothing_behind(
    order: BuildArguments, tmp_path: Path, number: signal.Signals, whom: str
) -> None:
    moments = random.Random(f"{number} {whom}")
    for attempt in range(8):
        root, log = tmp_path / str(attempt), tmp_path / f"log{attempt}"
        log.touch()  # the signal may come before the command can open it
        with start_command(order(root, *LONG_OPTIONS, *worker_options(3)), log) as process:
            wait_for(lambda: len(list_processes(process)) == (3 if attempt % 2 else 1))  # noqa: B023 - called at once
            time.sleep(moments.random() / (2 if attempt % 2 else 20))
            pids = list_processes(process)
            if whom == "the terminal":
                os.killpg(process.pid or 0, number)
            else:
                os.kill(pids[-1] if whom == "a worker" else pids[0], number)
            if whom == "a worker" and number == signal.SIGINT and len(pids) > 1:  # only rank 0 handles SIGINT
                time.sleep(0.5)
                assert len(list_processes(process)) == 3
                os.kill(pids[0], signal.SIGTERM)
            process.join(15)
            assert process.exitcode is not None, (attempt, log.read_text())
        assert len(read_lines(log)) <= 1, log.read_text()


def test_running_fit_listens_nowhere(order: BuildArguments, tmp_path: Path) -> None:
    with start_command(order(tmp_path, *LONG_OPTIONS, *worker_options(3)), tmp_path / "said") as process:
        wait_for_checkpoint(tmp_path)
        addresses = find_listening_addresses(list_processes(process))
        os.kill(process.pid or 0, signal.SIGTERM)
    assert not addresses


def test_fit_leaves_no_socket_and_no_process(order: BuildArguments, tmp_path: Path) -> None:
    run_fit(order(tmp_path, *worker_options(2)), tmp_path)
    assert not find_listening_addresses([os.getpid()])
    assert not multiprocessing.active_children()
    early = "[{class_path: tests.support.worker_parts.MoodyCallback}]"
    assert main(order(tmp_path, *worker_options(2), "--trainer.callbacks", early)) == 1
    assert not find_listening_addresses([os.getpid()])
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("early", [False, True])
def test_failed_fit_closes_its_pipes_while_its_error_is_kept(
    order: BuildArguments, tmp_path: Path, early: bool
) -> None:
    """A notebook keeps the last error, whose traceback refers to the objects of the fit."""
    options = dict(zip(*[iter(argument.removeprefix("--") for argument in order(tmp_path)[3:])] * 2, strict=True))
    before = count_sockets()
    with pytest.raises(WorkerError, match="the second worker has no idea") as failure:
        pairs_lit.fit(CONFIGS / "fc_aux.yaml", options | {"trainer.devices": "2"}, [MoodyCallback(early=early)])
    assert failure.tb is not None
    assert count_sockets() == before


def count_sockets() -> int:
    """Return the number of sockets that this process has open; a pipe between two workers is one."""
    return sum(
        link.is_symlink() and link.readlink().name.startswith("socket:") for link in Path("/proc/self/fd").iterdir()
    )


@pytest.mark.slow
def test_full_disk_is_reported_once(
    order: BuildArguments,
    alone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(checkpoints, "SAVE_INTERVAL_SECONDS", 0.0)
    with monkeypatch.context() as broken:
        sync, saved = os.fsync, []

        def full(descriptor: int) -> None:
            saved.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
            if [name.startswith(".last.ckpt.") for name in saved].count(True) == 2:
                raise OSError(28, os.strerror(28))
            sync(descriptor)

        broken.setattr("pairs_lit.runs.atomic_write.os.fsync", full)
        assert main(order(tmp_path, *worker_options(2))) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "last.ckpt cannot be written (No space left on device)" in line
    run = find_run(tmp_path)
    assert main(resume_arguments(run)) == 0
    check_same(run, alone)
