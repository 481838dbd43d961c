"""Channel between workers that torchrun, Slurm or the user started: gloo, and a store of torch for large tensors.

The workers form a process group that is not torch's default one. With a default group, Lightning would make all workers
wait for each other in every training step.
"""

import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import torch
from lightning.fabric.plugins import ClusterEnvironment
from torch import Tensor, distributed

from pairs_lit.errors import PairsLitError
from pairs_lit.workers.communication import EPOCH_TIMEOUT, PIECE_TIMEOUT, explain_failures, wait_until

_c10d: Any = distributed  # torch's annotations leave these classes out

LOOPBACK = "127.0.0.1"
_meeting_count = 0


def build_local_store(port: int, size: int, *, first: bool) -> object:
    """Build the store through which the workers of one machine find each other; it accepts local connections only.

    Args:
        port: The port of the store.
        size: The number of workers.
        first: Whether this worker is rank 0, which hosts the store.
    """
    return _c10d.TCPStore(
        LOOPBACK,
        port,
        size,
        first,
        PIECE_TIMEOUT,
        wait_for_workers=False,
        master_listen_fd=socket.create_server((LOOPBACK, port)).detach() if first else None,
        use_libuv=False,  # before torch 2.7, libuv does not accept an existing socket
    )


def build_environment_store(cluster: ClusterEnvironment) -> object:
    """Build the store through which workers started by torchrun or Slurm find each other."""
    global _meeting_count
    _meeting_count += 1  # the same processes may meet again for another fit, and need separate keys then
    address = {"MASTER_ADDR": cluster.main_address, "MASTER_PORT": str(cluster.main_port)}
    with _set_variables(address):
        store, *_ = next(_c10d.rendezvous("env://", cluster.global_rank(), cluster.world_size(), timeout=PIECE_TIMEOUT))
    return _c10d.PrefixStore(f"pairs-lit {_meeting_count}", store)


class NetworkChannel:
    """Channel over the network.

    Args:
        store: The store through which the workers find each other.
        rank: The rank of this worker.
        size: The number of workers.
        alone: Whether all workers are on this machine, so that only local connections need to be accepted.

    Attributes:
        rank: As in the arguments.

    Raises:
        PairsLitError: This build of torch lacks gloo, or another worker has ended.
    """

    def __init__(self, store: Any, rank: int, size: int, *, alone: bool) -> None:  # noqa: ANN401 - torch's
        if not distributed.is_gloo_available():
            raise PairsLitError(
                "workers that torchrun, srun or the user starts need gloo, which this build of torch lacks. Start "
                "pairs-lit once; it starts its workers itself."
            )
        self.rank = rank
        self._store, self._size = store, size
        self._piece_keys = defaultdict[int, Iterator[str]](lambda: cycle(("even piece", "odd piece")))
        store.set(f"here {rank}", "")
        everyone = [f"here {other_rank}" for other_rank in range(size)]
        wait_until(_poll(lambda: store.check(everyone)), EPOCH_TIMEOUT)
        with explain_failures(), _restrict_to_loopback(alone):
            self._group = _c10d.ProcessGroupGloo(store, rank, size, EPOCH_TIMEOUT)

    def exchange(self, data: bytes) -> list[bytes]:
        """Return the data of all workers, ordered by rank, on every worker."""
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self._size)]
        self._wait_for_completion(self._group.allgather([sizes], [torch.tensor([len(data)])]))
        padded = torch.zeros(max(map(int, sizes)), dtype=torch.uint8)
        padded[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        buffers = [torch.empty_like(padded) for _ in range(self._size)]
        self._wait_for_completion(self._group.allgather([buffers], [padded]))
        return [buffer[: int(size)].numpy().tobytes() for buffer, size in zip(buffers, sizes, strict=True)]

    def send(self, piece: Tensor) -> None:
        """Send a piece, (N,) uint8 on the CPU, to rank 0, as soon as rank 0 has taken the piece before the last one.

        It goes through the store, so that a worker can stop at any time; gloo would wait forever for the rest of a
        large message. Two keys alternate, so that a piece can be written while the one before it is read.
        """
        key = f"{next(self._piece_keys[self.rank])} {self.rank}"
        wait_until(_poll(lambda: not self._store.check([key])), PIECE_TIMEOUT)
        self._store.set(key, piece.numpy().tobytes())

    def receive(self, rank: int, piece: Tensor) -> None:
        """Fill a piece, (N,) uint8 on the CPU, with the next one that another worker sends; on rank 0 only."""
        key = f"{next(self._piece_keys[rank])} {rank}"
        wait_until(_poll(lambda: self._store.check([key])), PIECE_TIMEOUT)
        piece.copy_(torch.frombuffer(bytearray(self._store.get(key)), dtype=torch.uint8))
        self._store.delete_key(key)

    @staticmethod
    def _wait_for_completion(work: Any) -> None:  # noqa: ANN401 - torch's
        """Wait until a collective has completed, and raise its error if it has failed."""
        wait_until(_poll(work.is_completed), EPOCH_TIMEOUT)
        work.wait()


def _poll(holds: Callable[[], object]) -> Callable[[float], bool]:
    """Return a condition for :func:`wait_until`: whether it holds now; if not, it waits for the number of seconds."""

    def happened(seconds: float) -> bool:
        if holds():
            return True
        time.sleep(seconds)
        return False

    return happened


@contextmanager
def _restrict_to_loopback(alone: bool) -> Iterator[None]:
    """Make gloo accept connections from this machine only, if all workers are on it."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    with _set_variables({"GLOO_SOCKET_IFNAME": loopback} if alone and loopback is not None else {}):
        yield


@contextmanager
def _set_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and restore the former values at the end of the context."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name)
        os.environ.update({name: before[name] for name in variables if name in before})
