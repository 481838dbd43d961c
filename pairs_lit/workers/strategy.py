"""Lightning strategy in which each worker process trains whole stacks.

Worker w of W trains the stacks w, w + W, w + 2 W and so on, with separate batches and optimizer steps. The workers do
not communicate within an epoch. Metrics are summed at the end of an epoch, and weights are gathered when a checkpoint
is saved.
"""

import os
from collections.abc import Callable, Mapping
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
from pairs_lit.system.processes import StartMethod, can_fork
from pairs_lit.workers.communication import WorkerGroup
from pairs_lit.workers.launcher import Launcher
from pairs_lit.workers.network import NetworkChannel, build_environment_store, build_local_store
from pairs_lit.workers.pipes import PipeChannel

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

    The other workers of a command are forked from this process, and share its images, or are new processes that run
    the command again. Torchrun or Slurm may also start all workers.

    Args:
        accelerator: Lightning's accelerator. This and the next four arguments are those of any parallel strategy.
        parallel_devices: The devices, one for each process on this machine.
        cluster_environment: The environment that tells each process its rank.
        checkpoint_io: The plugin that writes checkpoints.
        precision_plugin: The plugin that sets the precision of the computation.
        start_method: How workers start. By default they are forked on Linux if no GPU is in use, because CUDA does not
            survive a fork, and otherwise spawned.
        rerun: Runs the command again in a new process, as the worker with the given channel; must be picklable by
            cloudpickle. None for a Trainer built by hand, whose workers can only be forked.
        channel: The channel of this worker, if it is a new process that another worker started.

    Raises:
        PairsLitError: Workers cannot be started in this way.
    """

    strategy_name = STRATEGY_NAME

    def __init__(
        self,
        accelerator: Accelerator | None = None,
        parallel_devices: list[torch.device] | None = None,
        cluster_environment: ClusterEnvironment | None = None,
        checkpoint_io: CheckpointIO | None = None,
        precision_plugin: Precision | None = None,
        start_method: StartMethod | None = None,
        rerun: Callable[[PipeChannel], None] | None = None,
        channel: PipeChannel | None = None,
    ) -> None:
        super().__init__(accelerator, parallel_devices, cluster_environment, checkpoint_io, precision_plugin)
        self.num_nodes = 1
        self._start_method = start_method
        self._rerun_as_worker = rerun
        self._channel = channel
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

    def set_world_ranks(self) -> None:
        """Set the global rank of this worker, counted node by node, and the number of workers."""
        self._cluster.set_global_rank(self.node_rank * self.num_processes + self.local_rank)
        self._cluster.set_world_size(self.num_nodes * self.num_processes)
        rank_zero_only.rank = self.global_rank  # type: ignore[attr-defined] # as Lightning's strategies do

    def _configure_launcher(self) -> None:
        has_all_workers = self._cluster.creates_processes_externally or self._channel is not None
        count, method = 1 if has_all_workers else self.num_processes, self._choose_start_method()
        if count > 1 and method == "spawn" and self._rerun_as_worker is None:
            raise PairsLitError(
                f"devices is {count}, but the workers of a custom Trainer cannot be new processes. Set devices=1, or "
                "use pairs_lit.fit."
            )
        rerun = self._rerun_as_worker if method == "spawn" else None
        self._launcher = Launcher(count, method, self._set_channel, rerun)

    def _choose_start_method(self) -> StartMethod:
        """Return how workers start; raise PairsLitError if they cannot start as requested."""
        is_safe = can_fork() and self.root_device.type == "cpu" and not torch.cuda.is_initialized()  # type: ignore[no-untyped-call] # torch's
        if self._start_method == "fork" and not is_safe:
            reason = "a GPU is in use" if can_fork() else "this operating system cannot fork a process safely"
            raise PairsLitError(f"rounds.start_method must be spawn or null, got fork, but {reason}. Leave it out.")
        return self._start_method or ("fork" if is_safe else "spawn")

    def _set_channel(self, channel: PipeChannel | None) -> None:
        """Set the channel of this process, or None if there are no other workers, and its rank if it is forked."""
        self._channel, self._worker_group = channel, None
        if channel is not None and channel.rank > 0:
            os.environ["LOCAL_RANK"] = str(channel.rank)
            self.set_world_ranks()

    def setup_environment(self) -> None:
        """Connect to the other workers."""
        super().setup_environment()
        self.set_world_ranks()
        if self.world_size > 1:
            self._worker_group = WorkerGroup(self._channel or self._open_network_channel())

    def _open_network_channel(self) -> NetworkChannel:
        """Connect to workers that torchrun, Slurm or the user started."""
        rank, size = self.global_rank, self.world_size
        is_local = self.num_nodes == 1 and isinstance(self._cluster, LightningEnvironment)
        store = (
            build_local_store(self._cluster.main_port, size, first=rank == 0)
            if is_local
            else build_environment_store(self._cluster)
        )
        return NetworkChannel(store, rank, size, alone=self.num_nodes == 1)

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
        return torch.stack([part.to(tensor.device) for part in self.gather_parts(tensor.detach().cpu())])

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
