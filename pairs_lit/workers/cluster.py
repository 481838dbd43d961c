"""Cluster environments: who started this process, how many workers to use, and how to requeue a Slurm job."""

import multiprocessing
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.plugins import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from pairs_lit.errors import PairsLitError
from pairs_lit.system.console import print_notice
from pairs_lit.system.cores import count_usable_cores
from pairs_lit.text import format_count

_SRUN_TASKS_VARIABLE = "SLURM_STEP_NUM_TASKS"  # only srun sets this variable; SLURM_NTASKS is set in every job


class SlurmTaskEnvironment(SLURMEnvironment):
    """Environment of the tasks of one ``srun``, without the checkpoints and requeueing of Lightning's environment."""

    def __init__(self) -> None:
        super().__init__(auto_requeue=False)

    def world_size(self) -> int:
        """Return the number of tasks."""
        return int(os.environ[_SRUN_TASKS_VARIABLE])

    @staticmethod
    def _validate_srun_used() -> None:
        """Skip Lightning's check, since this environment is used only for tasks of ``srun``."""


def _is_srun() -> bool:
    """Return whether this process is one of several tasks of an ``srun``."""
    return int(os.environ.get(_SRUN_TASKS_VARIABLE, "1")) > 1


class LocalEnvironment(LightningEnvironment):
    """Environment of workers that one command starts, or that the user starts with LOCAL_RANK and MASTER_PORT set.

    If only LOCAL_RANK is set, it is a leftover of another program, and no other workers have been started.
    """

    @property
    def creates_processes_externally(self) -> bool:
        """Whether the user has started all workers, rather than this command."""
        return set(os.environ) >= _MANUAL_START_VARIABLES


_MANUAL_START_VARIABLES = {"LOCAL_RANK", "MASTER_PORT"}
_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "OMPI_COMM_WORLD_RANK")


def detect_environment() -> ClusterEnvironment:
    """Return the environment for this process, which torchrun, srun, another worker or the user started.

    Raises:
        PairsLitError: Another launcher started this process as one of several.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if _is_srun():
        return SlurmTaskEnvironment()
    name = next((name for name in _RANK_VARIABLES if os.environ.get(name, "0") != "0"), None)
    if name is not None and not set(os.environ) >= _MANUAL_START_VARIABLES:
        raise PairsLitError(
            f"{name} is {os.environ[name]}: this is one of several processes, but neither torchrun nor srun started "
            "it, so each process would train all rounds. Start pairs-lit once, or with torchrun or srun."
        )
    return LocalEnvironment()


def check_single_process(command: str) -> None:
    """Raise PairsLitError if torchrun or srun started a command that cannot be shared by several processes."""
    if _get_started_workers() not in (None, (1, 1)):
        raise PairsLitError(f"{command} was started in several processes. Start it once; its fits use all cores.")


def count_started_workers() -> int | None:
    """Return the number of workers that torchrun or srun started, on all nodes, or None if neither did."""
    started = _get_started_workers()
    return None if started is None else started[0] * started[1]


def _get_started_workers() -> tuple[int, int] | None:
    """Return the numbers of workers per node and of nodes that torchrun or srun started, or None if neither did."""
    if TorchElasticEnvironment.detect():
        workers_per_node, workers = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        return _divide_workers(workers_per_node, workers, -(-workers // workers_per_node))
    if _is_srun():
        workers, nodes = int(os.environ[_SRUN_TASKS_VARIABLE]), int(os.environ.get("SLURM_NNODES", "1"))
        return _divide_workers(workers // nodes, workers, nodes)
    return None


def _divide_workers(workers_per_node: int, workers: int, nodes: int) -> tuple[int, int]:
    """Return the numbers of workers per node and of nodes; raise PairsLitError if nodes have unequal numbers."""
    if workers_per_node * nodes != workers:
        raise PairsLitError(f"{workers} processes were started on {nodes} nodes. Start the same number on each node.")
    return workers_per_node, nodes


def choose_num_workers(
    devices: object, nodes: int | None, *, on_cpu: bool, stacks: int, threads: int
) -> tuple[object, int]:
    """Choose the number of workers per node, and the number of nodes.

    Args:
        devices: The requested number of workers, a list of GPUs, or ``auto`` for one worker per core or GPU.
        nodes: The requested number of nodes.
        on_cpu: Whether workers compute on the CPU.
        stacks: The number of stacks; more workers than stacks would have nothing to do.
        threads: The number of threads per worker.

    Returns:
        The values of ``devices`` and ``num_nodes`` for Lightning's Trainer.

    Raises:
        PairsLitError: A number is not allowed, does not match the processes that were started, or needs workers that
            cannot be started here.
    """
    started = _get_started_workers()
    if started is not None:
        workers_per_node, nodes = started
        _check_worker_count(workers_per_node * nodes, stacks)
        if str(devices) not in ("auto", "-1", str(workers_per_node)) and on_cpu:
            raise PairsLitError(
                f"trainer.devices is {devices}, but {workers_per_node} processes per node were started. "
                "Leave trainer.devices out."
            )
        return workers_per_node if devices in ("auto", -1, "-1") else devices, nodes
    if nodes is None or nodes < 1:
        raise PairsLitError(f"trainer.num_nodes must be 1 or more, got {nodes}.")
    if nodes > 1 and not {"NODE_RANK", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ):
        raise PairsLitError(
            f"trainer.num_nodes is {nodes}, but the number of this node is unknown. Start pairs-lit on each node with "
            "torchrun or srun, or with NODE_RANK, MASTER_ADDR and MASTER_PORT set."
        )
    max_workers = max(1, stacks // nodes)
    if devices in ("auto", -1, "-1") and multiprocessing.current_process().daemon:
        return 1, nodes  # a worker of a multiprocessing.Pool may not start processes
    if devices in ("auto", -1, "-1"):
        return (
            min(max_workers, max(1, count_usable_cores() // threads)) if on_cpu else _choose_gpus(max_workers)
        ), nodes
    if on_cpu and not (str(devices).isdigit() and int(str(devices)) > 0):
        raise PairsLitError(f"trainer.devices must be auto or a number of workers, 1 or more, got {devices}.")
    count = int(str(devices)) if str(devices).isdigit() else 1
    if count > 1 and multiprocessing.current_process().daemon:
        raise PairsLitError(
            f"trainer.devices is {devices}, but this is a worker of a multiprocessing.Pool, which may not start "
            "processes. Leave trainer.devices out."
        )
    if count > max_workers:
        stack_count, worker_count = format_count(stacks, "stack"), format_count(max_workers * nodes, "worker")
        print_notice(f"trainer.devices is {devices}, but the rounds form {stack_count}, so {worker_count} will train.")
        return max_workers, nodes
    return devices, nodes


def _check_worker_count(workers: int, stacks: int) -> None:
    """Raise PairsLitError if more workers were started than there are stacks."""
    if workers > stacks:
        raise PairsLitError(
            f"{workers} processes were started, but the rounds form {format_count(stacks, 'stack')}. Start at most "
            f"{stacks}, or set a smaller rounds.stack_size to form more stacks."
        )


def _choose_gpus(max_workers: int) -> object:
    """Return the number of GPUs to use, or ``auto`` if there is no NVIDIA GPU."""
    import torch

    return max(1, min(max_workers, torch.cuda.device_count())) if torch.cuda.is_available() else "auto"


def get_slurm_job_id() -> str | None:
    """Return the Slurm job ID, as ``scontrol`` expects it, or None outside Slurm."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return os.environ.get("SLURM_JOB_ID") if array is None else f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"


def is_requeued() -> bool:
    """Return whether this process belongs to a Slurm job that was requeued."""
    return get_slurm_job_id() is not None and os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def requeue_slurm_job() -> None:
    """Requeue this Slurm job, whose command will then resume in its run folder; do nothing outside Slurm."""
    job_id = get_slurm_job_id()
    if job_id is None:
        return
    try:
        subprocess.run(["scontrol", "requeue", job_id], check=True, capture_output=True, text=True, timeout=60)
        print_notice(f"Slurm job {job_id} was requeued.")
    except (OSError, subprocess.SubprocessError) as error:
        reason = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        print_notice(f"scontrol requeue {job_id} failed ({' '.join(reason.split())}). Requeue the job yourself.")


@contextmanager
def hide_slurm() -> Iterator[None]:
    """Hide from Lightning that this process belongs to a Slurm job.

    Otherwise Lightning would resume from any ``hpc_ckpt_N.ckpt`` in the current folder, even one of another program.
    """
    tasks = os.environ.pop("SLURM_NTASKS", None)
    try:
        yield
    finally:
        if tasks is not None:
            os.environ["SLURM_NTASKS"] = tasks
