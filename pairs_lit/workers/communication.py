"""What workers tell each other, over gloo: figures at the end of an epoch, weights where a checkpoint is saved.

The group of processes is our own, not torch's default one: with that, Lightning would have all workers wait for each
other in every training step.
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
from pairs_lit.system.signals import check_asked
from pairs_lit.system.tracebacks import reason_of

Kept = TypeVar("Kept")

_c10d: Any = distributed  # torch's annotations leave these classes out

LOOPBACK = "127.0.0.1"
GOING_ON = "what was saved is kept, and pairs-lit fit RUN goes on"
_PATIENCE = timedelta(days=1)  # an epoch may be long; a worker that ends is noticed at once
_MEETING = timedelta(minutes=5)
_NEWS_SECONDS = 3.0
_PIECE = 2**22
"""So many bytes of each worker are passed on at a time; torch's stores take at most twice as many."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 1e-4, 0.002
_met = 0


def local_store(port: int, size: int, *, first: bool, listening: int | None) -> object:
    """Return where the workers of one command find each other; it listens to this machine only.

    Args:
        port: Where.
        size: How many there are.
        first: Whether this is the first one, which keeps the store.
        listening: A socket that listens at the port already.
    """
    return _c10d.TCPStore(
        LOOPBACK,
        port,
        size,
        first,
        _MEETING,
        wait_for_workers=False,
        master_listen_fd=listening,
        use_libuv=False,  # which takes no socket of ours before torch 2.7
    )


def environment_store(cluster: ClusterEnvironment) -> object:
    """Return where workers find each other that torchrun, Slurm or the user started."""
    global _met
    _met += 1  # another fit of the same processes
    places = {"MASTER_ADDR": cluster.main_address, "MASTER_PORT": str(cluster.main_port)}
    with _set(places):
        store, *_ = next(_c10d.rendezvous("env://", cluster.global_rank(), cluster.world_size(), timeout=_MEETING))
    return _c10d.PrefixStore(f"pairs-lit {_met}", store)


class Exchange:
    """A group of workers.

    Args:
        store: Where they find each other.
        rank: Which of them this is.
        size: How many there are.
        alone: Whether all are on this machine, which then listens to nobody else.
    """

    def __init__(self, store: Any, rank: int, size: int, *, alone: bool) -> None:  # noqa: ANN401 - torch's
        self._store, self._rank, self._size = store, rank, size
        store.set(f"here {rank}", "")
        _wait_until(lambda: bool(store.check([f"here {each}" for each in range(size)])))
        with _talking(), _on_loopback(alone):
            self._group = _c10d.ProcessGroupGloo(store, rank, size, _PATIENCE)

    def added_up(self, tensor: Tensor) -> Tensor:
        """Return the sum of a CPU tensor over all workers, in place."""
        with _talking():
            self._finish(self._group.allreduce([tensor]))
        return tensor

    def gathered(self, part: Kept) -> list[Kept]:
        """Return what each worker has; all must be picklable."""
        own = torch.frombuffer(bytearray(pickle.dumps(part)), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self._size)]
        with _talking():
            self._finish(self._group.allgather([sizes], [torch.tensor([len(own)])]))
            longest = int(torch.cat(sizes).max())
            padded = torch.zeros(longest, dtype=torch.uint8)
            padded[: len(own)] = own
            parts = [torch.empty_like(padded) for _ in range(self._size)]
            self._finish(self._group.allgather([parts], [padded]))
        kept: list[Any] = [
            pickle.loads(each[: int(size)].numpy().tobytes()) for each, size in zip(parts, sizes, strict=True)
        ]
        return kept

    def gathered_by_first(self, part: Kept) -> list[Kept]:
        """Return what each worker has, on the first worker; elsewhere only this worker's.

        Tensors go through the store, in pieces: in memory once, however large, and whoever is told to end can do so at
        once, while gloo would wait for the rest of a large message for ever.
        """
        file = io.BytesIO()
        pickler = _Pickler(file)
        pickler.dump(part)
        skeleton, own = file.getvalue(), pickler.tensors
        layouts = self.gathered((skeleton, [(each.shape, each.dtype) for each in own]))
        with _talking():
            if self._rank > 0:
                self._hand_over(own)
                return [part]
            others = [[torch.empty(shape, dtype=dtype) for shape, dtype in layout] for _, layout in layouts[1:]]
            for rank, tensors in enumerate(others, 1):
                self._take(rank, tensors)
        received = zip(layouts[1:], others, strict=True)
        return [part, *(_Unpickler(io.BytesIO(skeleton), tensors).load() for (skeleton, _), tensors in received)]

    def _hand_over(self, tensors: Sequence[Tensor]) -> None:
        for key, piece in _pieces(self._rank, tensors):
            _wait_until(lambda: not self._store.check([key]), _MEETING)  # noqa: B023 - called at once
            self._store.set(key, piece.numpy().tobytes())

    def _take(self, rank: int, tensors: Sequence[Tensor]) -> None:
        for key, piece in _pieces(rank, tensors):
            _wait_until(lambda: bool(self._store.check([key])), _MEETING)  # noqa: B023 - called at once
            piece.copy_(torch.frombuffer(bytearray(self._store.get(key)), dtype=torch.uint8))
            self._store.delete_key(key)

    @staticmethod
    def _finish(work: Any) -> None:  # noqa: ANN401 - torch's
        _wait_until(work.is_completed)
        work.wait()  # raises what went wrong


class _Pickler(pickle.Pickler):
    """Leaves tensors out, and keeps them."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.tensors: list[Tensor] = []

    def persistent_id(self, obj: object) -> int | None:
        """Name a tensor by its number."""
        if type(obj) is not Tensor or obj.layout is not torch.strided:
            return None
        self.tensors.append(obj.detach().cpu().contiguous())
        return len(self.tensors) - 1


class _Unpickler(pickle.Unpickler):
    """Puts tensors in."""

    def __init__(self, file: IO[bytes], tensors: Sequence[Tensor]) -> None:
        super().__init__(file)
        self._tensors = tensors

    def persistent_load(self, pid: int) -> Tensor:
        """Return the tensor of a number."""
        return self._tensors[pid]


def _pieces(rank: int, tensors: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield the bytes of a worker's tensors, contiguous ones on the CPU, as views; with the key to pass them on by.

    Keys alternate, so that one piece is written while the last one is read.
    """
    keys = cycle((f"even piece {rank}", f"odd piece {rank}"))
    for tensor in tensors:
        data = tensor.view(-1).view(torch.uint8)
        for start in range(0, len(data), _PIECE):
            yield next(keys), data[start : start + _PIECE]


def _wait_until(happened: Callable[[], bool], patience: timedelta = _PATIENCE) -> None:
    """Wait, but no longer than until a signal or another worker's failure asks for an end; torch itself would."""
    pause, end = _SHORTEST_PAUSE, time.monotonic() + patience.total_seconds()
    while not happened():
        check_asked()
        if time.monotonic() > end:
            raise RuntimeError("it did not answer in time")
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


@contextmanager
def _talking() -> Iterator[None]:
    """Say in one line that another worker has ended, where gloo says it in its own words."""
    try:
        yield
    except RuntimeError as error:
        check_asked(_NEWS_SECONDS)
        raise PairsLitError(f"another worker ended ({reason_of(error)}); {GOING_ON}.") from error


@contextmanager
def _on_loopback(alone: bool) -> Iterator[None]:
    """Let gloo listen to this machine only."""
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    with _set({"GLOO_SOCKET_IFNAME": loopback} if alone else {}):
        yield


@contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment for a while."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name)
        os.environ.update({name: before[name] for name in variables if name in before})
