"""Workers: however many processes train, started however, the tables are the same, and none is ever left behind."""

import json
import multiprocessing
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

import pairs_lit
from pairs_lit import PairDataModule, PairModule, Results, RoundRunner
from pairs_lit.checkpoints import files as checkpoints
from pairs_lit.checkpoints.files import read_checkpoint
from pairs_lit.cli import main
from pairs_lit.errors import PairsLitError, Stopped
from pairs_lit.nn.backbones import FC
from pairs_lit.nn.heads import MLP
from pairs_lit.system.signals import ask_to_end, forget_failures
from pairs_lit.workers import cluster as clusters
from pairs_lit.workers import communication as exchange_module
from pairs_lit.workers.communication import LOOPBACK, Exchange, local_store
from pairs_lit.workers.launcher import Launcher
from pairs_lit.workers.strategy import StackStrategy
from tests.conftest import CONFIGS
from tests.guarantees.test_error_messages import NOTICES
from tests.support import kill_targets
from tests.support.worker_parts import Counts

TABLES = ("rounds.csv", "curves.csv", "test.csv", "validate.csv", "predictions.csv")
TRAINED = TABLES[:2]
EVALUATIONS = ("test", "validate", "predict")
SCRIPT = str(Path(sys.executable).parent / "pairs-lit")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux")

SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "digits",
    "SLURM_NTASKS": "1",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_NNODES": "1",
    "SLURM_NODELIST": "node1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}


@pytest.fixture(autouse=True)
def _nobody_else_started_us(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "MASTER_", "TORCHELASTIC"))]:
        monkeypatch.delenv(name)


Order = Callable[..., list[str]]


@pytest.fixture(scope="module")
def order(tiny_root: Path) -> Order:
    """The arguments of a small fit of three stacks, the last of a single round."""

    def arguments(root: Path, *options: str, config: str = "fc_aux") -> list[str]:
        common = (
            f"--data.root {tiny_root} --data.source mnist --data.allow_unverified true --data.train_pairs 40 "
            "--data.val_pairs 20 --data.test_pairs 30 --data.batch_size 16 --rounds.count 5 --rounds.stack_size 2 "
            f"--trainer.max_epochs 3 --trainer.default_root_dir {root} --trainer.enable_progress_bar false"
        )
        return ["fit", "--config", str(CONFIGS / f"{config}.yaml"), *common.split(), *options]

    return arguments


STATEFUL = (
    *("--model.backbone.dropout", "0.2", "--model.backbone.batch_norm", "[maps]"),
    *("--model.lr_scheduler", "torch.optim.lr_scheduler.StepLR", "--model.lr_scheduler.step_size", "1"),
)


def workers(count: int | str) -> tuple[str, str]:
    return "--trainer.devices", str(count)


def run_in(root: Path) -> Path:
    (run,) = root.glob("lightning_logs/*/*")
    return run


def going_on(run: Path, command: str = "fit") -> list[str]:
    return [command, "--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints/last.ckpt")]


def fitted(arguments: list[str], root: Path) -> Path:
    assert main(arguments) == 0
    return run_in(root)


@pytest.fixture(scope="module")
def alone(order: Order, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a fit in one process."""
    root = tmp_path_factory.mktemp("alone")
    return fitted(order(root, *workers(1)), root)


@pytest.fixture(scope="module")
def stateful(order: Order, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with dropout, batch norm and a schedule, and the tables of the other commands."""
    root = tmp_path_factory.mktemp("stateful")
    run = fitted(order(root, *STATEFUL, *workers(1), config="cnn_aux"), root)
    for command in EVALUATIONS:
        assert main(going_on(run, command)) == 0
    return run


def check_same(run: Path, other: Path, tables: Sequence[str] = TRAINED) -> None:
    for table in tables:
        assert (run / table).read_bytes() == (other / table).read_bytes(), table


def tensors(part: Any, place: str = "") -> dict[str, torch.Tensor]:  # noqa: ANN401 - anything in a checkpoint
    if isinstance(part, torch.Tensor):
        return {place: part}
    items = part.items() if isinstance(part, Mapping) else enumerate(part) if isinstance(part, list | tuple) else ()
    return {name: each for key, item in items for name, each in tensors(item, f"{place}/{key}").items()}


def check_same_checkpoint(run: Path, other: Path) -> None:
    ours, theirs = (tensors(read_checkpoint(each / "checkpoints/last.ckpt")) for each in (run, other))
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


# Commands in processes of their own.


def _command(arguments: list[str], said: Path, environment: Mapping[str, str]) -> None:
    os.setsid()  # all that it starts can be killed at once
    os.environ.update(environment)
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(1)
    checkpoints.SAVE_SECONDS = 0.0
    raise SystemExit(main(arguments))


@contextmanager
def started(arguments: list[str], said: Path, environment: Mapping[str, str] | None = None) -> Iterator[BaseProcess]:
    process = kill_targets.FORKS.Process(target=_command, args=(arguments, said, environment or {}))
    process.start()
    try:
        yield process
        process.join(60)
        assert process.exitcode is not None, "it has not ended within a minute"
    finally:
        if process.is_alive():
            os.killpg(process.pid or 0, signal.SIGKILL)
    check_none_left(process)


def ended(arguments: list[str], said: Path, environment: Mapping[str, str] | None = None) -> int:
    with started(arguments, said, environment) as process:
        pass
    assert process.exitcode is not None
    return process.exitcode


def group(process: BaseProcess) -> list[int]:
    """Return the processes that a command consists of, without those that have ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[2]) == process.pid and fields[0] not in "ZX":
            found.append(int(stat.parent.name))
    return sorted(found)


def check_none_left(process: BaseProcess, seconds: float = 5.0) -> None:
    wait_for(lambda: not group(process), seconds)


def wait_for(happened: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def wait_for_checkpoint(root: Path) -> None:
    wait_for(lambda: list(root.glob("lightning_logs/*/*/checkpoints/last.ckpt")))


def lines(said: Path) -> list[str]:
    return [line for line in said.read_text().splitlines() if line and not any(notice in line for notice in NOTICES)]


def listening(pids: Sequence[int]) -> set[str]:
    """Return the addresses, as the kernel writes them, at which some processes listen."""
    own = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # that of this very listing
                own |= set(re.findall(r"socket:\[(\d+)\]", str(link.readlink())))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in own:
                found.add(fields[1].partition(":")[0])
    return found


LOCAL = {"0100007F", "0" * 24 + "01000000", "0" * 16 + "FFFF0000" + "0100007F"}
"""127.0.0.1 and ::1, as the kernel writes them."""

LONG = ("--trainer.max_epochs", "100000")


# The same tables.


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.quick(1)
def test_tables_and_checkpoint_are_the_same_however_many_workers(
    order: Order, stateful: Path, tmp_path: Path, count: int
) -> None:
    run = fitted(order(tmp_path, *STATEFUL, *workers(count), config="cnn_aux"), tmp_path)
    for command in EVALUATIONS:
        assert main(going_on(run, command)) == 0
    check_same(run, stateful, TABLES)
    check_same_checkpoint(run, stateful)
    summary = json.loads((run / "summary.json").read_text())
    assert [summary[name] for name in ("workers", "nodes", "threads")] == [count, 1, 1]


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.quick(1)
def test_any_stack_size_gives_its_own_tables_on_any_number_of_workers(order: Order, tmp_path: Path, size: int) -> None:
    for count in (1, 3):
        options = ("--rounds.stack_size", str(size), *workers(count))
        fitted(order(tmp_path / str(count), *options), tmp_path / str(count))
    check_same(run_in(tmp_path / "1"), run_in(tmp_path / "3"))


@pytest.mark.slow
def test_several_threads_in_each_worker_do_not_wait_for_those_of_the_first(order: Order, tmp_path: Path) -> None:
    for count in (1, 2):
        arguments = order(tmp_path / str(count), "--rounds.threads", "2", *workers(count), config="cnn_aux")
        assert ended(arguments, tmp_path / "said") == 0
    check_same(run_in(tmp_path / "1"), run_in(tmp_path / "2"))
    assert json.loads((run_in(tmp_path / "2") / "summary.json").read_text())["threads"] == 2


@pytest.mark.parametrize("before", [1, 2, 3])
@pytest.mark.quick(1)
def test_a_run_goes_on_with_another_number_of_workers(order: Order, alone: Path, tmp_path: Path, before: int) -> None:
    fitted(order(tmp_path, "--trainer.max_epochs", "1", *workers(before)), tmp_path)
    run = run_in(tmp_path)
    assert main([*going_on(run), "--trainer.max_epochs", "3", *workers(before % 3 + 1)]) == 0
    check_same(run, alone)
    check_same_checkpoint(run, alone)


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 2, 3])
def test_all_killed_the_run_goes_on_with_any_number_of_workers(
    order: Order, stateful: Path, tmp_path: Path, after: int
) -> None:
    callback = ("--trainer.callbacks", "[tests.support.worker_parts.Slow]")
    arguments = order(tmp_path, *STATEFUL, *callback, *workers(2), config="cnn_aux")
    with started(arguments, tmp_path / "said") as process:
        wait_for_checkpoint(tmp_path)
        os.killpg(process.pid or 0, signal.SIGKILL)
    run = run_in(tmp_path)
    assert not (run / "rounds.csv").exists()
    assert ended([*going_on(run), *workers(after)], tmp_path / "said") == 0
    check_same(run, stateful)


def environment_of(rank: int, port: int, size: int = 2) -> dict[str, str]:
    """What srun sets for one of its tasks."""
    number = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
    tasks = {"SLURM_NTASKS": str(size), "SLURM_STEP_NUM_TASKS": str(size), "SLURM_NTASKS_PER_NODE": str(size)}
    return SLURM | number | tasks | {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": str(port)}


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.slow
def test_tasks_of_srun_give_the_same_tables_and_one_run_folder(order: Order, alone: Path, tmp_path: Path) -> None:
    port, arguments = free_port(), order(tmp_path)
    with (
        started(arguments, tmp_path / "first", environment_of(0, port)) as first,
        started(arguments, tmp_path / "second", environment_of(1, port)) as second,
    ):
        pass
    assert (first.exitcode, second.exitcode) == (0, 0)
    check_same(run_in(tmp_path), alone)
    assert "test accuracy" in (tmp_path / "first").read_text()
    assert lines(tmp_path / "second") == []
    assert json.loads((run_in(tmp_path) / "summary.json").read_text())["workers"] == 2


@pytest.mark.slow
def test_torchrun_gives_the_same_tables_and_speaks_once(order: Order, alone: Path, tmp_path: Path) -> None:
    torchrun = [str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc_per_node", "2", SCRIPT]
    done = subprocess.run([*torchrun, *order(tmp_path)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run: ") == 1
    assert done.stderr.count("loading PyTorch") == 1
    check_same(run_in(tmp_path), alone)
    again = subprocess.run([*torchrun, *going_on(run_in(tmp_path), "predict")], check=False, timeout=120)
    assert again.returncode == 0
    assert main([*going_on(alone, "predict")]) == 0
    check_same(run_in(tmp_path), alone, ["predictions.csv"])


@pytest.mark.slow
def test_two_nodes_give_the_same_tables(order: Order, alone: Path, tmp_path: Path) -> None:
    torchrun, port = str(Path(sys.executable).parent / "torchrun"), free_port()
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
    check_same(run_in(tmp_path), alone)
    summary = json.loads((run_in(tmp_path) / "summary.json").read_text())
    assert (summary["workers"], summary["nodes"]) == (2, 2)


# One command.


def test_one_run_folder_and_every_word_once(
    order: Order, alone: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = fitted(order(tmp_path, *workers(3)), tmp_path)
    out, err = capfd.readouterr()
    assert out.count(str(run)) == 1
    assert err == ""
    ours, theirs = ({path.name for path in each.rglob("*") if "events" not in path.name} for each in (run, alone))
    assert ours - set(TABLES) == theirs - set(TABLES)
    assert len(list(run.glob("events*"))) == len(list(alone.glob("events*")))


def test_the_written_config_runs_again(order: Order, alone: Path, tmp_path: Path) -> None:
    first = fitted(order(tmp_path / "first", *workers(2)), tmp_path / "first")
    config = yaml.safe_load((first / "config.yaml").read_text())
    assert (config["trainer"]["devices"], config["trainer"]["strategy"]) in ((2, "stacks"), ("2", "stacks"))
    again = ["fit", "--config", str(first / "config.yaml"), "--trainer.default_root_dir", str(tmp_path / "again")]
    assert main(again) == 0
    check_same(next(tmp_path.glob("again/lightning_logs/*/*")), alone)


def test_a_config_of_an_earlier_release_runs_in_one_process(order: Order, alone: Path, tmp_path: Path) -> None:
    run = fitted(order(tmp_path, "--trainer.devices", "1", "--trainer.strategy", "auto"), tmp_path)
    check_same(run, alone)
    assert json.loads((run / "summary.json").read_text())["workers"] == 1


@pytest.mark.parametrize("elsewhere", [False, True], ids=["main thread", "another thread"])
@pytest.mark.slow
def test_from_python_twice_with_callbacks_that_keep_what_they_saw(
    order: Order, alone: Path, tmp_path: Path, elsewhere: bool
) -> None:
    runs, counts = [], Counts()
    options = dict(zip(*[iter(each.removeprefix("--") for each in order(tmp_path)[3:])] * 2, strict=True))
    options["trainer.devices"] = "2"

    def fit_twice() -> None:
        for _ in range(2):
            runs.append(pairs_lit.fit(CONFIGS / "fc_aux.yaml", options, [counts]))

    thread = threading.Thread(target=fit_twice)
    if elsewhere:
        thread.start()
        thread.join()
    else:
        fit_twice()
    assert counts.epochs == 6
    for run in tmp_path.glob("lightning_logs/*/*"):
        check_same(run, alone)
    assert len({run.folder for run in runs}) == 2


def trainer_of_ones_own(root: Path, tiny_root: Path, devices: int) -> tuple[Trainer, PairModule, PairDataModule]:
    runner = RoundRunner(count=4, stack_size=1)
    module = PairModule(seeds=runner.seeds, backbone=FC, head=MLP, stack_size=1)
    data = PairDataModule(
        seeds=runner.seeds, stack_size=1, source="mnist", root=str(tiny_root), allow_unverified=True,
        train_pairs=40, val_pairs=20, test_pairs=30,
    )  # fmt: skip
    trainer = Trainer(
        max_epochs=2, num_sanity_val_steps=0, callbacks=[runner, Results(runner)], accelerator="cpu", devices=devices,
        strategy="stacks", default_root_dir=root, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    return trainer, module, data


@pytest.mark.slow
def test_a_trainer_of_ones_own_ends_with_the_weights_of_all_workers(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    for devices in (1, 3):
        trainer, module, data = trainer_of_ones_own(tmp_path / str(devices), tiny_root, devices)
        (tmp_path / str(devices)).mkdir()
        trainer.fit(module, data)
        trainer.test(module, data, verbose=False)
        weights.append(module.state_dict())
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    monkeypatch.setattr("pairs_lit.workers.strategy.can_fork", lambda device: False)
    with pytest.raises(PairsLitError, match="devices is 2, but a Trainer of your own cannot start processes here"):
        trainer_of_ones_own(tmp_path, tiny_root, 2)


# What goes wrong.

MOODY = ("--model.backbone", "tests.support.worker_parts.Moody", "--model.backbone.kind")
GOING_ON = "what was saved is kept, and pairs-lit fit RUN"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (
            (*MOODY, "raise"),
            1,
            r"ArithmeticError: the second worker has no idea \(worker_parts\.py:\d+\)",
        ),
        ((*MOODY, "refuse"), 2, "leave it out"),
        ((*MOODY, "segfault"), 2, rf"worker 1 \(process \d+\) was killed by SIGSEGV; {GOING_ON} goes on\."),
        ((*MOODY, "exit"), 2, rf"worker 1 \(process \d+\) was ended with code 7; {GOING_ON} goes on\."),
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
    ids=["module raises", "module refuses", "module crashes", "module exits", "callback raises", "before they met"],
)
@pytest.mark.quick(2)
def test_what_goes_wrong_in_another_worker_is_said_in_one_line(
    order: Order, tmp_path: Path, options: tuple[str, ...], code: int, message: str
) -> None:
    start = time.monotonic()
    assert ended(order(tmp_path, *LONG, *workers(2), *options), tmp_path / "said") == code
    (line,) = lines(tmp_path / "said")
    assert re.fullmatch(f"pairs-lit: error: {message}", line)
    assert time.monotonic() - start < 15


@pytest.mark.parametrize("evaluation", EVALUATIONS)
@pytest.mark.quick(1)
def test_evaluation_ends_likewise(
    order: Order, alone: Path, tmp_path: Path, evaluation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = "[{class_path: tests.support.worker_parts.MoodyCallback, init_args: {early: true, kind: segfault}}]"
    arguments = [*going_on(alone, evaluation), "--trainer.callbacks", early, *workers(2)]
    assert ended(arguments, tmp_path / "said") == 2
    (line,) = lines(tmp_path / "said")
    assert "worker 1 (process" in line


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.quick(1)
def test_a_worker_that_is_killed_ends_the_command_and_the_run_goes_on(
    order: Order, tmp_path: Path, number: signal.Signals
) -> None:
    with started(order(tmp_path, *LONG, *workers(3)), tmp_path / "said") as process:
        wait_for_checkpoint(tmp_path)
        pids = group(process)
        assert len(pids) == 3
        os.kill(pids[-1], number)
        process.join(10)
        assert process.exitcode == 2
    (line,) = lines(tmp_path / "said")
    how = "killed by SIGKILL (out of memory?)" if number == signal.SIGKILL else "ended with code 143"
    assert re.fullmatch(
        rf"pairs-lit: error: worker \d \(process {pids[-1]}\) was {re.escape(how)}; {GOING_ON} .*", line
    )
    run = run_in(tmp_path)
    epoch = read_checkpoint(run / "checkpoints/last.ckpt")["epoch"]
    assert main([*going_on(run), "--trainer.max_epochs", str(epoch + 2), *workers(2)]) == 0


def test_without_the_first_worker_the_others_end(order: Order, tmp_path: Path) -> None:
    with started(order(tmp_path, *LONG, *workers(3)), tmp_path / "said") as process:
        wait_for_checkpoint(tmp_path)
        os.kill(process.pid or 0, signal.SIGKILL)
        check_none_left(process, seconds=3)
    assert lines(tmp_path / "said") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("all_of_them", [False, True], ids=["the command", "the terminal"])
@pytest.mark.quick(1)
def test_a_signal_ends_all_in_one_line(order: Order, tmp_path: Path, number: signal.Signals, all_of_them: bool) -> None:
    with started(order(tmp_path, *LONG, *workers(3)), tmp_path / "said") as process:
        wait_for_checkpoint(tmp_path)
        (os.killpg if all_of_them else os.kill)(process.pid or 0, number)
        process.join(10)
        assert process.exitcode == 128 + number
    (line,) = lines(tmp_path / "said")
    assert line.startswith(f"pairs-lit: stopped by {number.name}; what was saved is kept")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_signal_ends_also_what_waits_for_a_slow_worker(order: Order, tmp_path: Path, number: signal.Signals) -> None:
    with started(order(tmp_path, *workers(2), *MOODY, "sleep"), tmp_path / "said") as process:
        wait_for(lambda: list(tmp_path.glob("lightning_logs/*/*/config.yaml")))
        time.sleep(1.0)
        os.kill(process.pid or 0, number)
        process.join(10)
        assert process.exitcode == 128 + number
    assert len(lines(tmp_path / "said")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["the command", "the terminal", "a worker"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_at_any_moment_leaves_nothing_behind(
    order: Order, tmp_path: Path, number: signal.Signals, whom: str
) -> None:
    moments = random.Random(f"{number} {whom}")
    for place in range(8):
        root, said = tmp_path / str(place), tmp_path / f"said{place}"
        said.touch()  # the signal may come before the command can open it
        with started(order(root, *LONG, *workers(3)), said) as process:
            wait_for(lambda: len(group(process)) == (3 if place % 2 else 1))  # noqa: B023 - called at once
            time.sleep(moments.random() / (2 if place % 2 else 20))
            pids = group(process)
            if whom == "the terminal":
                os.killpg(process.pid or 0, number)
            else:
                os.kill(pids[-1] if whom == "a worker" else pids[0], number)
            if whom == "a worker" and number == signal.SIGINT and len(pids) > 1:  # left to the first one
                time.sleep(0.5)
                assert len(group(process)) == 3
                os.kill(pids[0], signal.SIGTERM)
            process.join(15)
            assert process.exitcode is not None, (place, said.read_text())
        assert len(lines(said)) <= 1, said.read_text()


def test_a_running_fit_listens_to_this_machine_only(order: Order, tmp_path: Path) -> None:
    with started(order(tmp_path, *LONG, *workers(3)), tmp_path / "said") as process:
        wait_for_checkpoint(tmp_path)
        addresses = listening(group(process))
        os.kill(process.pid or 0, signal.SIGTERM)
    assert addresses
    assert addresses <= LOCAL


def test_a_fit_leaves_no_socket_and_no_process(order: Order, tmp_path: Path) -> None:
    fitted(order(tmp_path, *workers(2)), tmp_path)
    assert not listening([os.getpid()])
    assert not multiprocessing.active_children()
    early = "[{class_path: tests.support.worker_parts.MoodyCallback}]"
    assert main(order(tmp_path, *workers(2), "--trainer.callbacks", early)) == 1
    assert not listening([os.getpid()])
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_full_disk_is_named_once(
    order: Order, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoints, "SAVE_SECONDS", 0.0)
    with monkeypatch.context() as broken:
        sync, saved = os.fsync, []

        def full(descriptor: int) -> None:
            saved.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
            if [name.startswith(".last.ckpt.") for name in saved].count(True) == 2:
                raise OSError(28, os.strerror(28))
            sync(descriptor)

        broken.setattr("pairs_lit.runs.atomic_write.os.fsync", full)
        assert main(order(tmp_path, *workers(2))) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "last.ckpt cannot be written (No space left on device)" in line
    run = run_in(tmp_path)
    assert main(going_on(run)) == 0
    check_same(run, alone)


@pytest.mark.slow
def test_a_run_that_is_trained_is_refused_to_a_second_fit(
    order: Order, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with started(order(tmp_path, *LONG, *workers(2)), tmp_path / "said") as process:
        wait_for_checkpoint(tmp_path)
        assert main([*going_on(run_in(tmp_path)), *workers(2)]) == 2
        os.kill(process.pid or 0, signal.SIGTERM)
    assert "is being trained by another process" in capfd.readouterr().err


@pytest.mark.slow
def test_two_fits_at_once_do_not_meet(order: Order, alone: Path, tmp_path: Path) -> None:
    with (
        started(order(tmp_path / "1", *workers(2)), tmp_path / "said1") as first,
        started(order(tmp_path / "2", *workers(3)), tmp_path / "said2") as second,
    ):
        pass
    assert (first.exitcode, second.exitcode) == (0, 0)
    for each in ("1", "2"):
        check_same(run_in(tmp_path / each), alone)


# Slurm.


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job, with a stand-in for scontrol that notes what it is told."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n')
    (tools / "scontrol").chmod(0o755)
    return SLURM | {"PATH": f"{tools}:{os.environ['PATH']}"}


ANNOUNCED = "[{class_path: tests.support.worker_parts.Announces, init_args: {rank: %d}}]"
REQUEUED = {"SLURM_RESTART_COUNT": "1"}


@pytest.mark.slow
def test_a_job_that_ends_is_queued_again_and_goes_on_in_its_own_run(
    order: Order, alone: Path, tmp_path: Path, slurm: dict[str, str]
) -> None:
    said, told = tmp_path / "said", tmp_path / "told"
    arguments = order(tmp_path, *workers(2), "--trainer.callbacks", ANNOUNCED % 0)
    assert ended(arguments, said, slurm) == 128 + signal.SIGUSR1
    assert told.read_text() == "requeue 4711\n"
    assert [line.partition(";")[0] for line in lines(said)] == [
        "pairs-lit: Slurm queues job 4711 again.",
        "pairs-lit: stopped by SIGUSR1",
    ]
    run = run_in(tmp_path)
    (tmp_path / "hpc_ckpt_1.ckpt").write_bytes(b"not ours")
    before = {path: path.read_bytes() for path in run.rglob("*.*") if path.is_file()}
    others = {"another job": slurm | {"SLURM_JOB_ID": "4712"} | REQUEUED, "a first start": slurm}
    for environment in others.values():  # each makes a folder of its own
        assert ended(arguments, said, environment) == 128 + signal.SIGUSR1 or environment is not slurm
    assert ended([*arguments, "--rounds.seed", "7"], said, slurm | REQUEUED) == 0
    assert {path: path.read_bytes() for path in before} == before
    assert len(list(tmp_path.glob("lightning_logs/*/*"))) == 4
    said.unlink()
    assert ended(arguments, said, slurm | REQUEUED) == 0
    assert "this job was queued again: it goes on in" in said.read_text()
    assert len(list(tmp_path.glob("lightning_logs/*/*"))) == 4


def test_the_run_that_a_requeued_job_goes_on_in_has_the_tables_of_an_undisturbed_one(
    order: Order, alone: Path, tmp_path: Path, slurm: dict[str, str]
) -> None:
    arguments = order(tmp_path, *workers(2), "--trainer.callbacks", ANNOUNCED % 0)
    assert ended(arguments, tmp_path / "said", slurm) == 128 + signal.SIGUSR1
    assert read_checkpoint(run_in(tmp_path) / "checkpoints/last.ckpt")["epoch"] == 1
    assert ended(arguments, tmp_path / "said", slurm | REQUEUED) == 0
    check_same(run_in(tmp_path), alone)


def test_an_array_job_is_named_by_its_task(order: Order, tmp_path: Path, slurm: dict[str, str]) -> None:
    array = {"SLURM_ARRAY_JOB_ID": "90", "SLURM_ARRAY_TASK_ID": "3"}
    arguments = order(tmp_path, *workers(2), "--trainer.callbacks", ANNOUNCED % 0)
    assert ended(arguments, tmp_path / "said", slurm | array) == 128 + signal.SIGUSR1
    assert (tmp_path / "told").read_text() == "requeue 90_3\n"


@pytest.mark.parametrize("missing", [False, True], ids=["refuses", "is missing"])
@pytest.mark.quick(1)
def test_a_scontrol_that_fails_is_said(order: Order, tmp_path: Path, slurm: dict[str, str], missing: bool) -> None:
    tool = tmp_path / "tools" / "scontrol"
    tool.write_text("#!/bin/sh\necho 'slurm_requeue error:\nJob is pending' >&2\nexit 1\n")
    if missing:
        tool.unlink()
    arguments = order(tmp_path, *workers(2), "--trainer.callbacks", ANNOUNCED % 0)
    assert ended(arguments, tmp_path / "said", slurm) == 128 + signal.SIGUSR1
    first, second = lines(tmp_path / "said")
    reason = "No such file" if missing else "slurm_requeue error: Job is pending"
    assert "scontrol requeue 4711 failed (" in first
    assert reason in first
    assert "queue the job again yourself" in first
    assert "stopped by SIGUSR1" in second


def test_any_task_of_srun_may_hear_of_the_end_and_one_queues_the_job_again(
    order: Order, tmp_path: Path, slurm: dict[str, str]
) -> None:
    port, arguments = free_port(), order(tmp_path, "--trainer.callbacks", ANNOUNCED % 1)
    with (
        started(arguments, tmp_path / "first", slurm | environment_of(0, port)) as first,
        started(arguments, tmp_path / "second", slurm | environment_of(1, port)) as second,
    ):
        pass
    assert (first.exitcode, second.exitcode) == (138, 138)
    assert (tmp_path / "told").read_text() == "requeue 4711\n"
    assert lines(tmp_path / "second") == []


# Where workers cannot be forked.


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.slow
def test_workers_that_start_the_command_again_give_the_same_tables(
    order: Order, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr("pairs_lit.workers.strategy.can_fork", lambda device: False)
    check_same(fitted(order(tmp_path, *workers(count)), tmp_path), alone)


@pytest.mark.slow
def test_what_goes_wrong_in_such_a_worker_is_said_in_one_line(
    order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pairs_lit.workers.strategy.can_fork", lambda device: False)
    assert main(order(tmp_path, *workers(2), *MOODY, "raise")) == 1
    *_, line = capfd.readouterr().err.splitlines()  # after the note that this network trains as copies
    assert re.fullmatch(
        r"pairs-lit: error: ArithmeticError: the second worker has no idea \(worker_parts\.py:\d+\)", line
    )
    assert main(order(tmp_path, *workers(2), *MOODY, "segfault")) == 2
    assert "was killed by SIGSEGV" in capfd.readouterr().err


@pytest.mark.slow
def test_a_script_without_main_guard_is_told_what_is_missing(order: Order, tmp_path: Path) -> None:
    given = [each.removeprefix("--") for each in order(tmp_path / "runs", *workers(2))[3:]]
    script = tmp_path / "script.py"
    script.write_text(
        "import pairs_lit\n"
        "import pairs_lit.workers.strategy\n"
        "pairs_lit.workers.strategy.can_fork = lambda device: False\n"
        f"pairs_lit.fit('fc_aux', {dict(zip(given[::2], given[1::2], strict=True))!r})\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert 'does the script call pairs_lit.fit under if __name__ == "__main__" only?' in done.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


# How many workers.


def chosen(devices: object, *, stacks: int = 4, nodes: int = 1, on_cpu: bool = True, threads: int = 1) -> object:
    return clusters.spread(devices, nodes, on_cpu=on_cpu, stacks=stacks, threads=threads)


@pytest.mark.parametrize("nodes", [None, 0, -1])
def test_a_number_of_nodes_that_is_none_is_refused(nodes: int | None) -> None:
    with pytest.raises(PairsLitError, match=r"num_nodes is .*: it must be 1 or more"):
        clusters.spread("auto", nodes, on_cpu=True, stacks=2, threads=1)


def test_a_worker_takes_a_core_for_each_of_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "usable_cores", lambda: 6)
    assert chosen("auto", stacks=10) == (6, 1)
    assert chosen("auto", stacks=10, threads=2) == (3, 1)
    assert chosen("auto", stacks=10, threads=7) == (1, 1)
    assert chosen("auto", stacks=4) == (4, 1)
    assert chosen(-1, stacks=4) == chosen("-1", stacks=4) == (4, 1)
    assert chosen(3) == (3, 1)
    assert chosen("3") == ("3", 1)


def test_more_workers_than_stacks_are_not_started(capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen(9, stacks=4) == (4, 1)
    assert "trainer.devices is 9, but the rounds make 4 stacks: 4 workers will train" in capsys.readouterr().err


@pytest.mark.parametrize("devices", [0, "0", -2, "some", [0], "1.5"])
def test_a_number_that_is_none_is_refused(devices: object) -> None:
    with pytest.raises(PairsLitError, match="it must be auto, or the number of workers, 1 or more"):
        chosen(devices)


def test_a_worker_of_a_pool_starts_none_of_its_own(
    order: Order, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "usable_cores", lambda: 6)
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    assert chosen("auto") == (1, 1)
    assert chosen(1) == (1, 1)
    with pytest.raises(PairsLitError, match=r"trainer\.devices is 2, but this is a worker of a multiprocessing\.Pool"):
        chosen(2)
    check_same(fitted(order(tmp_path), tmp_path), alone)


def as_torchrun(monkeypatch: pytest.MonkeyPatch, local: int, world: int) -> None:
    found = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": str(local), "WORLD_SIZE": str(world), "RANK": "0"}
    for name, value in found.items():
        monkeypatch.setenv(name, value)


def test_torchrun_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    as_torchrun(monkeypatch, 2, 4)
    assert chosen("auto") == (2, 2)
    assert chosen(2) == (2, 2)
    with pytest.raises(PairsLitError, match=r"trainer\.devices is 3, but 2 processes were started: leave it out"):
        chosen(3)
    with pytest.raises(PairsLitError, match="4 processes were started, but the rounds make 3 stacks: start at most 3"):
        chosen("auto", stacks=3)
    as_torchrun(monkeypatch, 2, 3)
    with pytest.raises(PairsLitError, match="3 processes were started on 2 nodes: start as many on each"):
        chosen("auto")


def test_srun_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (environment_of(0, 1, size=4) | {"SLURM_NNODES": "2"}).items():
        monkeypatch.setenv(name, value)
    assert chosen("auto") == (2, 2)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    with pytest.raises(PairsLitError, match="3 processes were started on 2 nodes: start as many on each"):
        chosen("auto")


def test_a_rank_that_is_left_over_starts_nothing_and_waits_for_nobody(
    order: Order, alone: Path, tmp_path: Path
) -> None:
    assert ended(order(tmp_path, *workers(2)), tmp_path / "said", {"LOCAL_RANK": "0"}) == 0
    check_same(run_in(tmp_path), alone)


def test_workers_that_the_user_starts_give_the_same_tables(order: Order, alone: Path, tmp_path: Path) -> None:
    meeting, arguments = {"MASTER_PORT": str(free_port())}, order(tmp_path, *workers(2))
    with (
        started(arguments, tmp_path / "first", meeting | {"LOCAL_RANK": "0"}) as first,
        started(arguments, tmp_path / "second", meeting | {"LOCAL_RANK": "1"}) as second,
    ):
        pass
    assert (first.exitcode, second.exitcode) == (0, 0)
    check_same(run_in(tmp_path), alone)


def test_a_launcher_that_tells_us_nothing_is_refused(
    order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    assert main(order(tmp_path)) == 2
    assert "OMPI_COMM_WORLD_RANK is 1: this is one of several processes, but neither" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_reproduce_is_started_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_torchrun(monkeypatch, 2, 2)
    assert main(["reproduce", "belhadj", "--runs", str(tmp_path / "runs")]) == 2
    line = capsys.readouterr().err.splitlines()[-1]  # before it, it may say that files differ from their commit
    assert "was started in several processes: start it once; its fits use all cores" in line
    assert not list(tmp_path.glob("runs/lightning_logs/*/*"))


def control_group(root: Path, path: str, **files: str) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize(
    ("membership", "groups", "cores"),
    [
        ("0::/job\n", {"job": {"cpu__max": "150000 100000\n"}}, 1.5),
        ("0::/job\n", {"job": {"cpu__max": "max 100000\n"}}, float("inf")),
        ("0::/slice/job\n", {"slice": {"cpu__max": "300000 100000\n"}, "slice/job": {"cpu__max": "max 100000\n"}}, 3),
        ("0::/elsewhere\n", {"": {"cpu__max": "200000 100000\n"}}, 2),
        ("4:cpu,cpuacct:/a\n", {"cpu,cpuacct/a": {"cpu__cfs_quota_us": "50000", "cpu__cfs_period_us": "25000"}}, 2),
        ("4:cpu:/a\n1:memory:/b\n", {"cpu/a": {"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "1"}}, float("inf")),
        ("1:memory:/b\n", {}, float("inf")),
        ("", {}, float("inf")),
    ],
)  # fmt: skip
def test_the_quota_of_a_container_counts(
    tmp_path: Path, membership: str, groups: dict[str, dict[str, str]], cores: float
) -> None:
    (tmp_path / "cgroup").write_text(membership)
    for path, files in groups.items():
        control_group(tmp_path / "groups", path, **files)
    assert clusters.cores_within(tmp_path / "cgroup", tmp_path / "groups") == cores


def test_cores_are_those_that_the_process_is_bound_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(clusters, "_MEMBERSHIP", tmp_path / "nothing")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(5)))
    assert clusters.usable_cores() == 5
    monkeypatch.setattr(clusters, "cores_within", lambda membership, root: 0.5)
    assert clusters.usable_cores() == 1


# What workers tell each other.


def _member(rank: int, size: int, port: int, answers: Any) -> None:  # noqa: ANN401 - a queue
    store = local_store(port, size, first=rank == 0, listening=None)
    exchange = Exchange(store, rank, size, alone=True)
    strategy = StackStrategy(parallel_devices=[torch.device("cpu")] * size)
    strategy._exchange = exchange
    strategy.set_world_ranks = lambda: None  # type: ignore[method-assign]
    monkey: Any = StackStrategy
    monkey.world_size = property(lambda self: size)
    own = torch.tensor([rank + 1.0, 10.0])
    said = {
        "sum": strategy.reduce(own, reduce_op="sum").tolist(),
        "mean": strategy.reduce(own).tolist(),
        "own": own.tolist(),
        "text": strategy.reduce("text"),
        "broadcast": strategy.broadcast({"from": rank}, src=1),
        "all": strategy.all_gather(own).tolist(),
        "gathered": strategy.gathered("x" * 1000 * rank),
    }
    strategy.barrier()
    answers.put((rank, said))


def test_sums_means_broadcasts_and_parts_of_any_size() -> None:
    context, port = kill_targets.FORKS, free_port()
    answers = context.Queue()
    members = [context.Process(target=_member, args=(rank, 2, port, answers)) for rank in range(2)]
    for member in members:
        member.start()
    found = dict(answers.get(timeout=60) for _ in members)
    for member in members:
        member.join()
    for rank in range(2):
        assert found[rank] == {
            "sum": [3.0, 20.0],
            "mean": [1.5, 10.0],
            "own": [rank + 1.0, 10.0],
            "text": "text",
            "broadcast": {"from": 1},
            "all": [[1.0, 10.0], [2.0, 10.0]],
            "gathered": ["", "x" * 1000],
        }


def _parts(rank: int) -> dict[str, Any]:
    """Return what no two workers have alike: shapes, types, empty and scalar tensors, and what is no tensor."""
    values = torch.arange(30.0 + 7 * rank)
    return {
        f"weights {rank}": values,
        "columns": values[:6].view(2, 3).t(),
        "half": values.bfloat16(),
        "flags": values > 3,
        "scalar": torch.tensor(rank),
        "nothing": torch.empty(0, 3),
        "words": ["text", {"rank": rank}],
    }


def _passing_on(rank: int, size: int, port: int, answers: Any) -> None:  # noqa: ANN401 - a queue
    exchange_module._PIECE = 50  # so that tensors come in several pieces, and pieces hold several tensors
    store = local_store(port, size, first=rank == 0, listening=None)
    found = Exchange(store, rank, size, alone=True).gathered_by_first(_parts(rank))
    wanted = [_parts(each) for each in range(size)] if rank == 0 else [_parts(rank)]
    answers.put((rank, _alike(found, wanted)))


def _alike(found: Any, wanted: Any) -> bool:  # noqa: ANN401 - nested
    if isinstance(wanted, torch.Tensor):
        return found.dtype == wanted.dtype and torch.equal(found, wanted)
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(_alike(found[key], each) for key, each in wanted.items())
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_alike, found, wanted))
    return bool(found == wanted)


@pytest.mark.parametrize("size", [2, 3])
def test_the_first_worker_gets_every_tensor_in_pieces(size: int) -> None:
    context, port = kill_targets.FORKS, free_port()
    answers = context.Queue()
    members = [context.Process(target=_passing_on, args=(rank, size, port, answers)) for rank in range(size)]
    for member in members:
        member.start()
    found = dict(answers.get(timeout=60) for _ in members)
    for member in members:
        member.join()
    assert found == dict.fromkeys(range(size), True)


def test_a_signal_between_two_starts_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    forks: Any = multiprocessing.get_context("fork").Process
    start, begun = forks.start, []

    def once(self: BaseProcess) -> None:
        if begun:
            raise Stopped(signal.SIGTERM)
        start(self)
        begun.append(self)

    monkeypatch.setattr(forks, "start", once)
    launcher = Launcher(3, lambda: nullcontext(0), lambda _: time.sleep(60), None)
    with pytest.raises(Stopped):
        launcher.launch(lambda: None)
    (worker,) = begun
    worker.join(5)
    assert worker.exitcode == -signal.SIGKILL


def _keeping_what_it_has(port: int, met: Any) -> None:  # noqa: ANN401 - an event
    exchange = Exchange(local_store(port, 2, first=False, listening=None), 1, 2, alone=True)
    met.set()
    exchange.gathered((b"", [(torch.Size([2**24]), torch.float32)]))  # and never passes it on
    time.sleep(60)


def _waiting_for_it(port: int, patience: float) -> None:
    exchange_module._MEETING = timedelta(seconds=patience)
    exchange = Exchange(local_store(port, 2, first=True, listening=None), 0, 2, alone=True)
    if patience > 1:
        threading.Timer(0.5, ask_to_end, [PairsLitError("told to end")]).start()
    try:
        exchange.gathered_by_first([])
    except PairsLitError as error:
        sys.exit(17 if "told to end" in str(error) else 19 if "did not answer in time" in str(error) else 18)


@pytest.mark.parametrize(("patience", "code"), [(60.0, 17), (0.2, 19)])
@pytest.mark.slow
def test_who_waits_for_a_large_tensor_can_be_told_to_end(patience: float, code: int) -> None:
    context, port = kill_targets.FORKS, free_port()
    met = context.Event()
    other = context.Process(target=_keeping_what_it_has, args=(port, met))
    first = context.Process(target=_waiting_for_it, args=(port, patience))
    other.start()
    first.start()
    try:
        first.join(20)
        assert met.is_set()
        assert first.exitcode == code
    finally:
        first.kill()
        other.kill()


def test_who_waits_for_a_worker_that_never_comes_hears_of_its_failure() -> None:
    store = local_store(free_port(), 2, first=True, listening=None)
    ask_to_end(PairsLitError("worker 1 is gone"))
    try:
        with pytest.raises(PairsLitError, match="worker 1 is gone"):
            Exchange(store, 0, 2, alone=True)
    finally:
        forget_failures()


# Memory.


@pytest.mark.slow
def test_workers_share_the_images(order: Order, mnist_root: Path, tmp_path: Path) -> None:
    options = f"--data.root {mnist_root} --data.allow_unverified false --data.image_size 28 --data.train_pairs 1000"
    arguments = order(tmp_path, *LONG, *workers(3), *options.split(), "--rounds.count", "3", "--rounds.stack_size", "1")
    with started(arguments, tmp_path / "said") as process:
        wait_for_checkpoint(tmp_path)
        _, *others = group(process)
        own, all_of_it = ([_megabytes(pid, what) for pid in others] for what in ("Private_\\w+", "Rss"))
        os.kill(process.pid or 0, signal.SIGTERM)
    images = 70_000 * 28 * 28 / 2**20
    assert max(own) < images < min(all_of_it)


def _megabytes(pid: int, what: str) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(map(int, re.findall(rf"{what}:\s+(\d+) kB", text))) / 1024
