"""Clusters: who started this process, how many workers there can be, and how a requeued job finds its run."""

import math
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lightning.fabric.plugins import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from pairs_lit.errors import PairsLitError
from pairs_lit.system.console import notice
from pairs_lit.text import counted

_STEP_TASKS = "SLURM_STEP_NUM_TASKS"  # set by srun alone; SLURM_NTASKS stands in every job


class SlurmTasks(SLURMEnvironment):
    """The tasks of one ``srun``, without Lightning's own checkpoints and requeueing."""

    def __init__(self) -> None:
        super().__init__(auto_requeue=False)

    def world_size(self) -> int:
        """Return the number of tasks."""
        return int(os.environ[_STEP_TASKS])

    @staticmethod
    def _validate_srun_used() -> None:
        """It is used, else this would be another environment."""


def _is_srun() -> bool:
    return int(os.environ.get(_STEP_TASKS, "1")) > 1


class OneCommand(LightningEnvironment):
    """The workers of one command, or those that the user starts with LOCAL_RANK and MASTER_PORT.

    A LOCAL_RANK alone is left over from something else: nobody has started others.
    """

    @property
    def creates_processes_externally(self) -> bool:
        """Whether the user has started all workers."""
        return set(os.environ) >= _BY_HAND


_BY_HAND = {"LOCAL_RANK", "MASTER_PORT"}
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "OMPI_COMM_WORLD_RANK")


def environment() -> ClusterEnvironment:
    """Return who started this process: torchrun, srun, another worker, or nobody but the user.

    Raises:
        PairsLitError: Another launcher started it, as one of several.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if _is_srun():
        return SlurmTasks()
    name = next((name for name in _RANKS if os.environ.get(name, "0") != "0"), None)
    if name is not None and not set(os.environ) >= _BY_HAND:
        raise PairsLitError(
            f"{name} is {os.environ[name]}: this is one of several processes, but neither torchrun nor srun started "
            "it, so each would train all rounds. Start pairs-lit once, or with one of them."
        )
    return OneCommand()


def check_alone(command: str) -> None:
    """Refuse a command in several processes that cannot share its work."""
    if _started() not in (None, (1, 1)):
        raise PairsLitError(f"{command} was started in several processes: start it once; its fits use all cores.")


def _started() -> tuple[int, int] | None:
    """Return how many workers torchrun or srun started on each of how many nodes; None: neither did."""
    if TorchElasticEnvironment.detect():
        local, workers = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        return _evenly(local, workers, -(-workers // local))
    if _is_srun():
        workers, nodes = int(os.environ[_STEP_TASKS]), int(os.environ.get("SLURM_NNODES", "1"))
        return _evenly(workers // nodes, workers, nodes)
    return None


def _evenly(local: int, workers: int, nodes: int) -> tuple[int, int]:
    if local * nodes != workers:
        raise PairsLitError(f"{workers} processes were started on {nodes} nodes: start as many on each.")
    return local, nodes


def spread(devices: object, nodes: int | None, *, on_cpu: bool, stacks: int, threads: int) -> tuple[object, int]:
    """Choose how many workers train, on each of how many nodes.

    Args:
        devices: As asked for: a number, a list of GPUs, or ``auto``: a CPU worker a core, a GPU worker a GPU.
        nodes: As asked for.
        on_cpu: Whether workers compute on the CPU.
        stacks: How many stacks there are: more workers would have nothing to do.
        threads: How many threads each worker takes.

    Returns:
        What to tell Lightning as devices and num_nodes.

    Raises:
        PairsLitError: Other numbers were started than can work, or such workers cannot be started here.
    """
    started = _started()
    if started is not None:
        local, nodes = started
        _check_started(local * nodes, stacks)
        if str(devices) not in ("auto", "-1", str(local)) and on_cpu:
            raise PairsLitError(f"trainer.devices is {devices}, but {local} processes were started: leave it out.")
        return local if devices in ("auto", -1, "-1") else devices, nodes
    if nodes is None or nodes < 1:
        raise PairsLitError(f"trainer.num_nodes is {nodes}: it must be 1 or more.")
    if nodes > 1 and not {"NODE_RANK", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ):
        raise PairsLitError(
            f"trainer.num_nodes is {nodes}, but nothing says which node this is: start pairs-lit on each with torchrun "
            "or srun, or with NODE_RANK, MASTER_ADDR and MASTER_PORT set."
        )
    most = max(1, stacks // nodes)
    if devices in ("auto", -1, "-1") and multiprocessing.current_process().daemon:
        return 1, nodes  # a worker of a multiprocessing.Pool may start none of its own
    if devices in ("auto", -1, "-1"):
        return (min(most, max(1, usable_cores() // threads)) if on_cpu else _gpus(most)), nodes
    if on_cpu and not (str(devices).isdigit() and int(str(devices)) > 0):
        raise PairsLitError(f"trainer.devices is {devices}: it must be auto, or the number of workers, 1 or more.")
    count = int(str(devices)) if str(devices).isdigit() else 1
    if count > 1 and multiprocessing.current_process().daemon:
        raise PairsLitError(
            f"trainer.devices is {devices}, but this is a worker of a multiprocessing.Pool, which may start none of "
            "its own: leave it out."
        )
    if count > most:
        made, workers = counted(stacks, "stack"), counted(most * nodes, "worker")
        notice(f"trainer.devices is {devices}, but the rounds make {made}: {workers} will train.")
        return most, nodes
    return devices, nodes


def _check_started(workers: int, stacks: int) -> None:
    if workers > stacks:
        raise PairsLitError(
            f"{workers} processes were started, but the rounds make {counted(stacks, 'stack')}: start at most "
            f"{stacks}, or set rounds.stack_size to make more."
        )


def _gpus(most: int) -> object:
    """Return how many GPUs can work, where there are any."""
    import torch

    return max(1, min(most, torch.cuda.device_count())) if torch.cuda.is_available() else "auto"


def usable_cores() -> int:
    """Return how many cores this process may use: those it is bound to, within the quota of its container."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    return max(1, int(min(len(os.sched_getaffinity(0)), cores_within(_MEMBERSHIP, _CGROUPS))))


_MEMBERSHIP, _CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cores_within(membership: Path, root: Path) -> float:
    """Return how many cores the control groups around a process let it keep busy; infinity: there is no limit.

    Args:
        membership: The file that says which groups it belongs to, as Linux writes it.
        root: The folder in which the groups lie.
    """
    limits = [math.inf]
    with suppress(FileNotFoundError):  # a system without control groups
        for line in membership.read_text(encoding="utf-8").splitlines():
            _, kinds, path = line.split(":", 2)
            if not kinds or "cpu" in kinds.split(","):
                own = root / kinds / path.lstrip("/")
                around = [each for each in own.parents if each.is_relative_to(root)]
                limits += [_quota(group) for group in (own, *around)]
    return min(limits)


def _quota(folder: Path) -> float:
    """Return how many cores a control group may keep busy; infinity: as many as there are."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(quota) / float(period) if float(quota) > 0 else math.inf
    except (OSError, ValueError):  # no such files, or "max"
        return math.inf


def job() -> str | None:
    """Return the Slurm job that this is, as ``scontrol`` names it; None: none."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return os.environ.get("SLURM_JOB_ID") if array is None else f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"


def was_requeued() -> bool:
    """Say whether this Slurm job has run before."""
    return job() is not None and os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def requeue() -> None:
    """Have Slurm queue this job again, if it is one: the same command then goes on in its own run folder."""
    name = job()
    if name is None:
        return
    try:
        subprocess.run(["scontrol", "requeue", name], check=True, capture_output=True, text=True, timeout=60)
        notice(f"Slurm queues job {name} again.")
    except (OSError, subprocess.SubprocessError) as error:
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        notice(f"scontrol requeue {name} failed ({' '.join(said.split())}): queue the job again yourself.")


@contextmanager
def outside_slurm() -> Iterator[None]:
    """Hide from Lightning that this is a Slurm job.

    It would go on from any ``hpc_ckpt_N.ckpt`` that lies in the current folder, whoever wrote it.
    """
    tasks = os.environ.pop("SLURM_NTASKS", None)
    try:
        yield
    finally:
        if tasks is not None:
            os.environ["SLURM_NTASKS"] = tasks
