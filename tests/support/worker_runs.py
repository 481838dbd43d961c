"""Helpers for fits of a few stacks by several workers, in this process or in separate ones."""

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from pairs_lit.checkpoints import last_checkpoint as checkpoints
from pairs_lit.checkpoints.files import read_checkpoint
from pairs_lit.cli import main
from pairs_lit.workers.network import LOOPBACK
from tests.support import kill_targets
from tests.support.runs import NOTICES

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux")
TABLES = ("rounds.csv", "curves.csv", "test.csv", "validate.csv", "predictions.csv")
TRAINING_TABLES = TABLES[:2]
EVALUATION_COMMANDS = ("test", "validate", "predict")
SCRIPT = str(Path(sys.executable).parent / "pairs-lit")


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


BuildArguments = Callable[..., list[str]]


STATEFUL_OPTIONS = (
    *("--model.backbone.dropout", "0.2", "--model.backbone.batch_norm", "[maps]"),
    *("--model.lr_scheduler", "torch.optim.lr_scheduler.StepLR", "--model.lr_scheduler.step_size", "1"),
)


def worker_options(count: int | str) -> tuple[str, str]:
    return "--trainer.devices", str(count)


def find_run(root: Path) -> Path:
    (run,) = root.glob("lightning_logs/*/*")
    return run


def resume_arguments(run: Path, command: str = "fit") -> list[str]:
    return [command, "--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints/last.ckpt")]


def run_fit(arguments: list[str], root: Path) -> Path:
    assert main(arguments) == 0
    return find_run(root)


def check_same(run: Path, other: Path, tables: Sequence[str] = TRAINING_TABLES) -> None:
    for table in tables:
        assert (run / table).read_bytes() == (other / table).read_bytes(), table


def collect_tensors(part: Any, place: str = "") -> dict[str, torch.Tensor]:  # noqa: ANN401 - anything in a checkpoint
    if isinstance(part, torch.Tensor):
        return {place: part}
    items = part.items() if isinstance(part, Mapping) else enumerate(part) if isinstance(part, list | tuple) else ()
    return {name: tensor for key, item in items for name, tensor in collect_tensors(item, f"{place}/{key}").items()}


def check_same_checkpoint(run: Path, other: Path) -> None:
    ours, theirs = (collect_tensors(read_checkpoint(folder / "checkpoints/last.ckpt")) for folder in (run, other))
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


# Commands in separate processes.
def _run_command(arguments: list[str], log: Path, environment: Mapping[str, str]) -> None:
    os.setsid()  # so that all processes that it starts can be killed at once
    os.environ.update(environment)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(1)
    checkpoints.SAVE_INTERVAL_SECONDS = 0.0
    raise SystemExit(main(arguments))


@contextmanager
def start_command(
    arguments: list[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[BaseProcess]:
    process = kill_targets.FORK_SERVER.Process(target=_run_command, args=(arguments, log, environment or {}))
    process.start()
    try:
        yield process
        process.join(60)
        assert process.exitcode is not None, "the command has not ended within a minute"
    finally:
        if process.is_alive():
            os.killpg(process.pid or 0, signal.SIGKILL)
    check_none_left(process)


def run_command(arguments: list[str], log: Path, environment: Mapping[str, str] | None = None) -> int:
    with start_command(arguments, log, environment) as process:
        pass
    assert process.exitcode is not None
    return process.exitcode


def list_processes(process: BaseProcess) -> list[int]:
    """Return the IDs of the running processes of a command."""
    return list_group(process.pid or 0)


def list_group(leader: int) -> list[int]:
    """Return the IDs of the running processes of a process group."""
    pids = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # the process has just ended
            continue
        if int(fields[2]) == leader and fields[0] not in "ZX":
            pids.append(int(stat.parent.name))
    return sorted(pids)


def check_none_left(process: BaseProcess, seconds: float = 5.0) -> None:
    wait_for(lambda: not list_processes(process), seconds)


def wait_for(happened: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        time.sleep(0.02)


def wait_for_checkpoint(root: Path) -> None:
    wait_for(lambda: list(root.glob("lightning_logs/*/*/checkpoints/last.ckpt")))


def read_lines(log: Path) -> list[str]:
    return [
        line
        for line in log.read_text(encoding="utf-8").splitlines()
        if line and not any(notice in line for notice in NOTICES)
    ]


def find_listening_addresses(pids: Sequence[int]) -> set[str]:
    """Return the addresses at which processes listen, in the format of the kernel."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # the descriptor of this listing itself
                sockets |= set(re.findall(r"socket:\[(\d+)\]", str(link.readlink())))
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="utf-8").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                addresses.add(fields[1].partition(":")[0])
    return addresses


LONG_OPTIONS = ("--trainer.max_epochs", "100000")


def build_srun_environment(rank: int, port: int, size: int = 2) -> dict[str, str]:
    """Return the environment variables that srun sets for one of its tasks."""
    number = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
    tasks = {"SLURM_NTASKS": str(size), "SLURM_STEP_NUM_TASKS": str(size), "SLURM_NTASKS_PER_NODE": str(size)}
    return SLURM | number | tasks | {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": str(port)}


def find_free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as listener:
        return int(listener.getsockname()[1])


MOODY_OPTIONS = ("--model.backbone", "tests.support.worker_parts.Moody", "--model.backbone.kind")


RESUME_HINT = "Progress was saved; resume with pairs-lit fit RUN"


def set_torchrun_environment(monkeypatch: pytest.MonkeyPatch, local: int, world: int) -> None:
    environment = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": str(local), "WORLD_SIZE": str(world), "RANK": "0"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
