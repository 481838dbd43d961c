"""Communication between workers: collectives over gloo for metrics (per epoch) and weights (per checkpoint).

The workers form a process group that is not torch's default one. With a default group, Lightning would make all workers
wait for each other in every training step.
"""

import io
import os
import pickle
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import cycle
from typing import IO, Any, TypeVar

import torch
from lightning.fabric.plugins import ClusterEnvironment
from torch import Tensor, distributed

from pairs_lit.errors import PairsLitError
from pairs_lit.system.signals import raise_if_stopped
from pairs_lit.system.tracebacks import format_reason

Value = TypeVar("Value")

_c10d: Any = distributed  # torch's annotations leave these classes out

LOOPBACK = "127.0.0.1"
RESUME_HINT = "Progress was saved; resume with pairs-lit fit RUN"
_TIMEOUT = timedelta(days=1)  # an epoch may be long, and the end of another worker is noticed at once anyway
_MEETING_TIMEOUT = timedelta(minutes=5)
_FAILURE_NEWS_SECONDS = 3.0  # how long to wait for the error of another worker after the connection to it has failed
_PIECE_BYTES = 2**22
"""Number of bytes that a worker sends at a time; torch's stores accept at most twice as many."""

_MIN_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 1e-4, 0.002
_meeting_count = 0


def build_local_store(port: int, size: int, *, first: bool, listening: int | None) -> object:
    """Build the store through which the workers of one command find each other; it accepts local connections only.

    Args:
        port: The port of the store.
        size: The number of workers.
        first: Whether this worker is rank 0, which hosts the store.
        listening: The file descriptor of a socket that already listens at the port, or None.
    """
    return _c10d.TCPStore(
        LOOPBACK,
        port,
        size,
        first,
        _MEETING_TIMEOUT,
        wait_for_workers=False,
        master_listen_fd=listening,
        use_libuv=False,  # before torch 2.7, libuv does not accept an existing socket
    )


def build_environment_store(cluster: ClusterEnvironment) -> object:
    """Build the store through which workers started by torchrun, Slurm or the user find each other."""
    global _meeting_count
    _meeting_count += 1  # the same processes may meet again for another fit, and need separate keys then
    address = {"MASTER_ADDR": cluster.main_address, "MASTER_PORT": str(cluster.main_port)}
    with _set_variables(address):
        store, *_ = next(
            _c10d.rendezvous("env://", cluster.global_rank(), cluster.world_size(), timeout=_MEETING_TIMEOUT)
        )
    return _c10d.PrefixStore(f"pairs-lit {_meeting_count}", store)


class WorkerGroup:
    """Group of workers that exchange tensors and objects, after :meth:`connect`.

    Args:
        store: The store through which the workers find each other.
        rank: The rank of this worker.
        size: The number of workers.
        alone: Whether all workers are on this machine, so that only local connections need to be accepted.
    """

    def __init__(self, store: Any, rank: int, size: int, *, alone: bool) -> None:  # noqa: ANN401 - torch's
        self._store, self._rank, self._size, self._alone = store, rank, size, alone
        self._group: Any = None
        self._work: Any = None  # the last collective; no frame may keep it, since it keeps the connections open

    def connect(self) -> None:
        """Wait for the other workers, and connect to them.

        Raises:
            PairsLitError: Another worker has ended.
        """
        self._store.set(f"here {self._rank}", "")
        _wait_until(lambda: bool(self._store.check([f"here {rank}" for rank in range(self._size)])))
        with _explain_failures(), _restrict_to_loopback(self._alone):
            self._group = _c10d.ProcessGroupGloo(self._store, self._rank, self._size, _TIMEOUT)

    def close(self) -> None:
        """Close all connections and listening sockets, even if the traceback of an error still refers to this group.

        The other workers must have ended, because torch waits for a collective that has begun.
        """
        self._store = self._group = self._work = None

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """Replace a CPU tensor by its sum over all workers, and return it."""
        with _explain_failures():
            self._work = self._group.allreduce([tensor])
            self._wait_for_completion()
        return tensor

    def all_gather(self, part: Value) -> list[Value]:
        """Return the parts of all workers, on every worker; parts must be picklable."""
        data = torch.frombuffer(bytearray(pickle.dumps(part)), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self._size)]
        with _explain_failures():
            self._work = self._group.allgather([sizes], [torch.tensor([len(data)])])
            self._wait_for_completion()
            longest = int(torch.cat(sizes).max())
            padded = torch.zeros(longest, dtype=torch.uint8)
            padded[: len(data)] = data
            buffers = [torch.empty_like(padded) for _ in range(self._size)]
            self._work = self._group.allgather([buffers], [padded])
            self._wait_for_completion()
        parts: list[Any] = [
            pickle.loads(buffer[: int(size)].numpy().tobytes()) for buffer, size in zip(buffers, sizes, strict=True)
        ]
        return parts

    def gather_to_rank_zero(self, part: Value) -> list[Value]:
        """Return the parts of all workers on rank 0, and only this worker's part on all other ranks.

        Tensors are sent through the store in pieces. So even large ones are in memory only once, and a worker can stop
        at any time, whereas gloo would wait forever for the rest of a large message.
        """
        file = io.BytesIO()
        pickler = _Pickler(file)
        pickler.dump(part)
        skeleton, own_tensors = file.getvalue(), pickler.tensors
        layouts = self.all_gather((skeleton, [(tensor.shape, tensor.dtype) for tensor in own_tensors]))
        with _explain_failures():
            if self._rank > 0:
                self._send_tensors(own_tensors)
                return [part]
            others = [[torch.empty(shape, dtype=dtype) for shape, dtype in layout] for _, layout in layouts[1:]]
            for rank, tensors in enumerate(others, 1):
                self._receive_tensors(rank, tensors)
        received = zip(layouts[1:], others, strict=True)
        return [part, *(_Unpickler(io.BytesIO(skeleton), tensors).load() for (skeleton, _), tensors in received)]

    def _send_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Send tensors to rank 0, each piece as soon as rank 0 has taken the piece before the last one."""
        for key, piece in _split_into_pieces(self._rank, tensors):
            _wait_until(lambda: not self._store.check([key]), _MEETING_TIMEOUT)  # noqa: B023 - called at once
            self._store.set(key, piece.numpy().tobytes())

    def _receive_tensors(self, rank: int, tensors: Sequence[Tensor]) -> None:
        """Receive the values of tensors from another worker."""
        for key, piece in _split_into_pieces(rank, tensors):
            _wait_until(lambda: bool(self._store.check([key])), _MEETING_TIMEOUT)  # noqa: B023 - called at once
            piece.copy_(torch.frombuffer(bytearray(self._store.get(key)), dtype=torch.uint8))
            self._store.delete_key(key)

    def _wait_for_completion(self) -> None:
        """Wait until the collective has completed, and raise its error if it has failed."""
        _wait_until(lambda: bool(self._work.is_completed()))
        self._work.wait()


class _Pickler(pickle.Pickler):
    """Pickler that replaces tensors by their index and collects them in ``tensors``."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.tensors: list[Tensor] = []

    def persistent_id(self, obj: object) -> int | None:
        """Collect a tensor and return its index, or None for other objects, which are pickled as usual."""
        if type(obj) is not Tensor or obj.layout is not torch.strided:
            return None
        self.tensors.append(obj.detach().cpu().contiguous())
        return len(self.tensors) - 1


class _Unpickler(pickle.Unpickler):
    """Unpickler that inserts the tensors that :class:`_Pickler` left out."""

    def __init__(self, file: IO[bytes], tensors: Sequence[Tensor]) -> None:
        super().__init__(file)
        self._tensors = tensors

    def persistent_load(self, pid: int) -> Tensor:
        """Return the tensor with an index."""
        return self._tensors[pid]


def _split_into_pieces(rank: int, tensors: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield the bytes of a worker's tensors in pieces, each as a view with the store key to send it by.

    The tensors must be contiguous and on the CPU. Two keys alternate, so that a piece can be written while the one
    before it is read.
    """
    keys = cycle((f"even piece {rank}", f"odd piece {rank}"))
    for tensor in tensors:
        data = tensor.view(-1).view(torch.uint8)
        for start in range(0, len(data), _PIECE_BYTES):
            yield next(keys), data[start : start + _PIECE_BYTES]


def _wait_until(happened: Callable[[], bool], patience: timedelta = _TIMEOUT) -> None:
    """Wait until a condition holds; stop waiting if a signal arrives or another worker fails, which torch does not.

    Raises:
        RuntimeError: The condition did not hold in time.
    """
    pause, deadline = _MIN_PAUSE_SECONDS, time.monotonic() + patience.total_seconds()
    while not happened():
        raise_if_stopped()
        if time.monotonic() > deadline:
            raise RuntimeError("it did not answer in time")
        time.sleep(pause)
        pause = min(2 * pause, _MAX_PAUSE_SECONDS)


@contextmanager
def _explain_failures() -> Iterator[None]:
    """Replace errors of gloo by the error of the worker that has failed, or by one line that a worker has ended."""
    try:
        yield
    except RuntimeError as error:
        raise_if_stopped(_FAILURE_NEWS_SECONDS)
        raise PairsLitError(f"another worker ended ({format_reason(error)}). {RESUME_HINT}.") from error


@contextmanager
def _restrict_to_loopback(alone: bool) -> Iterator[None]:
    """Make gloo accept connections from this machine only, if all workers are on it."""
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    with _set_variables({"GLOO_SOCKET_IFNAME": loopback} if alone else {}):
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
