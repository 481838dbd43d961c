"""Lightning strategy in which each worker process trains whole stacks.

Worker w of W trains the stacks w, w + W, w + 2 W and so on, with separate batches and optimizer steps. The workers do
not communicate within an epoch. Metrics are summed at the end of an epoch, and weights are gathered when a checkpoint
is saved, both over ``torch.distributed`` (gloo).
"""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.strategies import ParallelStrategy, StrategyRegistry
from lightning_utilities.core.rank_zero import rank_zero_only
from torch import Tensor
from torch.optim import Optimizer

from pairs_lit.errors import PairsLitError
from pairs_lit.workers.communication import LOOPBACK, WorkerGroup, build_environment_store, build_local_store
from pairs_lit.workers.launcher import Launcher, can_fork

Key = TypeVar("Key", int, str)
Value = TypeVar("Value")

STRATEGY_NAME = "stacks"
"""The name of the strategy on the command line."""


def gather_parts(trainer: Trainer, part: Value) -> list[Value]:
    """Return the parts of all workers, on every worker; with another strategy, only this process's part."""
    strategy = trainer.strategy
    return strategy.gather_parts(part) if isinstance(strategy, StackStrategy) else [part]


class StackStrategy(ParallelStrategy):
    """Strategy that trains whole stacks in one or several processes.

    If workers compute on the CPU of one Linux machine, they are forked from this process and share its images.
    Otherwise each worker is a new process that runs the command again. Torchrun or Slurm may also start all workers.

    Args:
        accelerator: Lightning's accelerator. This and the next four arguments are those of any parallel strategy.
        parallel_devices: The devices, one for each process on this machine.
        cluster_environment: The environment that tells each process its rank.
        checkpoint_io: The plugin that writes checkpoints.
        precision_plugin: The plugin that sets the precision of the computation.
        again: Runs the command again as a worker if workers cannot be forked; called with the worker's rank and the
            port at which the workers meet.
    """

    strategy_name = STRATEGY_NAME

    def __init__(
        self,
        accelerator: Accelerator | None = None,
        parallel_devices: list[torch.device] | None = None,
        cluster_environment: ClusterEnvironment | None = None,
        checkpoint_io: CheckpointIO | None = None,
        precision_plugin: Precision | None = None,
        again: Callable[[int, int], None] | None = None,
    ) -> None:
        super().__init__(accelerator, parallel_devices, cluster_environment, checkpoint_io, precision_plugin)
        self.num_nodes = 1
        self._rerun_as_worker = again
        self._listener: socket.socket | None = None
        self._port: int | None = None
        self._worker_group: WorkerGroup | None = None

    @property
    def num_processes(self) -> int:
        """The number of workers on this machine."""
        return len(self.parallel_devices or [])

    @property
    def root_device(self) -> torch.device:
        """The device of this worker."""
        return (self.parallel_devices or [torch.device("cpu")])[self.local_rank]

    @property
    def _cluster(self) -> ClusterEnvironment:
        return cast(ClusterEnvironment, self.cluster_environment)

    @property
    def _is_local(self) -> bool:
        """Whether all workers belong to one command on this machine."""
        return self.num_nodes == 1 and isinstance(self._cluster, LightningEnvironment)

    def set_world_ranks(self) -> None:
        """Set the global rank of this worker, counted node by node, and the number of workers."""
        self._cluster.set_global_rank(self.node_rank * self.num_processes + self.local_rank)
        self._cluster.set_world_size(self.num_nodes * self.num_processes)
        rank_zero_only.rank = self.global_rank  # type: ignore[attr-defined] # as Lightning's strategies do

    def _configure_launcher(self) -> None:
        count = 1 if self._cluster.creates_processes_externally else self.num_processes
        again = None if can_fork(self.root_device) else self._rerun_as_worker
        if count > 1 and again is None and not can_fork(self.root_device):
            raise PairsLitError(
                f"devices is {count}, but a custom Trainer cannot start workers on this platform or device. Start the "
                "script with torchrun, or use pairs_lit.fit."
            )
        self._launcher = Launcher(count, self._open_meeting, self._become_worker, again)

    @contextmanager
    def _open_meeting(self) -> Iterator[int]:
        """Reserve a local port for the workers to meet at, before they start, so that no other command takes it."""
        with socket.create_server((LOOPBACK, 0)) as self._listener:
            self._port = int(self._listener.getsockname()[1])
            try:
                yield self._port
            finally:
                self._port = self._worker_group = self._listener = None

    def _become_worker(self, rank: int) -> None:
        """Turn this forked process into the worker of a rank."""
        os.environ["LOCAL_RANK"] = str(rank)
        self._listener = None
        self.set_world_ranks()

    def setup_environment(self) -> None:
        """Connect to the other workers."""
        super().setup_environment()
        self.set_world_ranks()
        if self.world_size > 1:
            if self._is_local:
                listening = None if self._listener is None else self._listener.detach()
                port, first = self._port or self._cluster.main_port, self.global_rank == 0
                store = build_local_store(port, self.world_size, first=first, listening=listening)
            else:
                store = build_environment_store(self._cluster)
            self._worker_group = WorkerGroup(store, self.global_rank, self.world_size, alone=self.num_nodes == 1)

    def batch_to_device(self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0) -> Any:  # noqa: ANN401 - Lightning's
        """Move a batch to a device, without the three hooks of module and data module that Lightning looks up."""
        return batch.to_device(device or self.root_device)

    def model_to_device(self) -> None:
        """Move the module to this worker's device."""
        cast(torch.nn.Module, self.model).to(self.root_device)

    def barrier(self, name: str | None = None) -> None:
        """Wait for all workers."""
        if self._worker_group is not None:
            self._worker_group.all_reduce_sum(torch.zeros(1))

    def broadcast(self, obj: Value, src: int = 0) -> Value:
        """Return the object of worker ``src``, on every worker."""
        return obj if self._worker_group is None else self._worker_group.all_gather(obj)[src]

    def gather_parts(self, part: Value) -> list[Value]:
        """Return the parts of all workers, on every worker."""
        return [part] if self._worker_group is None else self._worker_group.all_gather(part)

    def all_gather(self, tensor: Tensor, group: Any = None, sync_grads: bool = False) -> Tensor:  # noqa: ANN401 - Lightning's
        """Return the tensors of all workers, stacked along a new first dimension."""
        return torch.stack(
            [gather_parts.to(tensor.device) for gather_parts in self.gather_parts(tensor.detach().cpu())]
        )

    def reduce(self, tensor: Any, group: Any = None, reduce_op: Any = "mean") -> Any:  # noqa: ANN401 - Lightning's
        """Return the sum or mean of a tensor over all workers."""
        if self._worker_group is None or not isinstance(tensor, Tensor):
            return tensor
        total = self._worker_group.all_reduce_sum(tensor.cpu().clone()).to(tensor.device)
        return total / self.world_size if reduce_op in ("mean", "avg") else total

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:  # noqa: A002 - Lightning's
        """Return whether all workers, or any, decided so; the CPU counts them and need not wait for a GPU."""
        count = self.reduce(torch.tensor(int(decision)), reduce_op="sum")
        return bool(count == self.world_size if all else count)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the weights of all stacks on rank 0; other ranks lack current values for stacks of other workers."""
        module = cast(Any, self.lightning_module)
        return self._merge_shards(super().lightning_module_state_dict(), module.find_stack)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the optimizer state for the parameters of all stacks on rank 0."""
        module, local_state = cast(Any, self.lightning_module), super().optimizer_state(optimizer)
        names = [view.name for group in module.optimization.groups for view in group]
        parameter_states = cast(dict[int, Any], local_state["state"])
        merged = self._merge_shards(parameter_states, lambda index: module.find_stack(names[index]))
        return {**local_state, "state": dict(sorted(merged.items()))}

    def on_train_end(self) -> None:
        """Load the trained weights of all stacks on rank 0, which is the process that the user works in."""
        if self.world_size > 1:
            state = self.lightning_module_state_dict()
            if self.is_global_zero:
                cast(torch.nn.Module, self.lightning_module).load_state_dict(state)

    def _merge_shards(self, part: Mapping[Key, Any], stack_of: Callable[[Key], int | None]) -> dict[Key, Any]:
        """Return a mapping with the values of other workers for the keys that belong to their stacks, on rank 0."""
        stacks = cast(Any, self.lightning_module).rounds.get_worker_stacks(self.global_rank, self.world_size)
        shard = {key: value for key, value in part.items() if stack_of(key) in stacks}
        merged = dict(part)
        for worker_shard in [shard] if self._worker_group is None else self._worker_group.gather_to_rank_zero(shard):
            merged |= worker_shard
        return merged


StrategyRegistry.register(
    STRATEGY_NAME, StackStrategy, "Whole stacks in several processes; nothing is reduced between them."
)
