"""Workers: processes that train whole stacks, each on its own, as a Lightning strategy.

A stack is the unit of work: worker w of W trains the stacks w, w + W, w + 2 W and so on, from its own batches to its
own optimizer steps. Nothing is reduced between workers while they train; what was measured is added up at the end of
an epoch, and weights are gathered where a checkpoint is saved, both over ``torch.distributed`` (gloo).
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
from pairs_lit.workers.communication import LOOPBACK, Exchange, environment_store, local_store
from pairs_lit.workers.launcher import Launcher, can_fork

Key = TypeVar("Key", int, str)
Kept = TypeVar("Kept")

NAME = "stacks"
"""What the strategy is called on the command line."""


def gathered(trainer: Trainer, part: Kept) -> list[Kept]:
    """Return every worker's part, on the first worker; elsewhere this worker's alone."""
    strategy = trainer.strategy
    return strategy.gathered(part) if isinstance(strategy, StackStrategy) else [part]


class StackStrategy(ParallelStrategy):
    """Trains whole stacks in several processes; with one, in this process.

    On the CPU of one machine the other processes are forked from this one, so they share its images; elsewhere the
    command starts once more for each. ``torchrun`` or Slurm may start them all.

    Args:
        accelerator: As for every strategy of Lightning, like the next four.
        parallel_devices: One for each process on this machine.
        cluster_environment: Who the processes are.
        checkpoint_io: Who writes checkpoints.
        precision_plugin: In which precision they compute.
        again: Starts the command once more where workers cannot be forked, given a worker's number and the port at
            which to meet.
    """

    strategy_name = NAME

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
        self._again = again
        self._listener: socket.socket | None = None
        self._port: int | None = None
        self._exchange: Exchange | None = None

    @property
    def num_processes(self) -> int:
        """How many workers this machine has."""
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
        """Whether all workers are of one command on this machine."""
        return self.num_nodes == 1 and isinstance(self._cluster, LightningEnvironment)

    def set_world_ranks(self) -> None:
        """Number the workers, node after node."""
        self._cluster.set_global_rank(self.node_rank * self.num_processes + self.local_rank)
        self._cluster.set_world_size(self.num_nodes * self.num_processes)
        rank_zero_only.rank = self.global_rank  # type: ignore[attr-defined] # Lightning's own way

    def _configure_launcher(self) -> None:
        count = 1 if self._cluster.creates_processes_externally else self.num_processes
        again = None if can_fork(self.root_device) else self._again
        if count > 1 and again is None and not can_fork(self.root_device):
            raise PairsLitError(
                f"devices is {count}, but a Trainer of your own cannot start processes here: start the script with "
                "torchrun, or use pairs_lit.fit."
            )
        self._launcher = Launcher(count, self._meeting, self._become, again)

    @contextmanager
    def _meeting(self) -> Iterator[int]:
        """Take a port of this machine alone before the others start, so that no other command takes it."""
        with socket.create_server((LOOPBACK, 0)) as self._listener:
            self._port = int(self._listener.getsockname()[1])
            try:
                yield self._port
            finally:
                self._port = self._exchange = self._listener = None

    def _become(self, rank: int) -> None:
        """Be another worker from now on."""
        os.environ["LOCAL_RANK"] = str(rank)
        self._listener = None
        self.set_world_ranks()

    def setup_environment(self) -> None:
        """Meet the other workers."""
        super().setup_environment()
        self.set_world_ranks()
        if self.world_size > 1:
            if self._is_local:
                listening = None if self._listener is None else self._listener.detach()
                port, first = self._port or self._cluster.main_port, self.global_rank == 0
                store = local_store(port, self.world_size, first=first, listening=listening)
            else:
                store = environment_store(self._cluster)
            self._exchange = Exchange(store, self.global_rank, self.world_size, alone=self.num_nodes == 1)

    def batch_to_device(self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0) -> Any:  # noqa: ANN401 - Lightning's
        """Move a batch; Lightning's own way asks the module and the data module for three hooks each time."""
        return batch.on(device or self.root_device)

    def model_to_device(self) -> None:
        """Move the module to this worker's device."""
        cast(torch.nn.Module, self.model).to(self.root_device)

    def barrier(self, name: str | None = None) -> None:
        """Wait for all workers."""
        if self._exchange is not None:
            self._exchange.added_up(torch.zeros(1))

    def broadcast(self, obj: Kept, src: int = 0) -> Kept:
        """Return what one worker has."""
        return obj if self._exchange is None else self._exchange.gathered(obj)[src]

    def gathered(self, part: Kept) -> list[Kept]:
        """Return what each worker has."""
        return [part] if self._exchange is None else self._exchange.gathered(part)

    def all_gather(self, tensor: Tensor, group: Any = None, sync_grads: bool = False) -> Tensor:  # noqa: ANN401 - Lightning's
        """Return a tensor of each worker, one after the other in a new dimension."""
        return torch.stack([each.to(tensor.device) for each in self.gathered(tensor.detach().cpu())])

    def reduce(self, tensor: Any, group: Any = None, reduce_op: Any = "mean") -> Any:  # noqa: ANN401 - Lightning's
        """Add up a tensor over all workers, or take the mean."""
        if self._exchange is None or not isinstance(tensor, Tensor):
            return tensor
        total = self._exchange.added_up(tensor.cpu().clone()).to(tensor.device)
        return total / self.world_size if reduce_op in ("mean", "avg") else total

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the weights of all stacks, on the first worker."""
        module = cast(Any, self.lightning_module)
        return self._whole(super().lightning_module_state_dict(), module.stack_of)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the optimizer's state of all stacks' parameters, on the first worker."""
        module, found = cast(Any, self.lightning_module), super().optimizer_state(optimizer)
        names = [view.name for group in module.optimization.groups for view in group]
        state = cast(dict[int, Any], found["state"])
        whole = self._whole(state, lambda place: module.stack_of(names[place]))
        return {**found, "state": dict(sorted(whole.items()))}

    def on_train_end(self) -> None:
        """Leave the first worker, which is the user's own process, with the trained weights of all stacks."""
        if self.world_size > 1:
            whole = self.lightning_module_state_dict()
            if self.is_global_zero:
                cast(torch.nn.Module, self.lightning_module).load_state_dict(whole)

    def _whole(self, part: Mapping[Key, Any], stack_of: Callable[[Key], int | None]) -> dict[Key, Any]:
        """Replace what belongs to the stacks of other workers, by what they have."""
        stacks = cast(Any, self.lightning_module).rounds.of_worker(self.global_rank, self.world_size)
        own = {key: value for key, value in part.items() if stack_of(key) in stacks}
        whole = dict(part)
        for each in [own] if self._exchange is None else self._exchange.gathered_by_first(own):
            whole |= each
        return whole


StrategyRegistry.register(NAME, StackStrategy, "Whole stacks in several processes; nothing is reduced between them.")
