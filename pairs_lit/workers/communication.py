"""Communication between workers: collectives for metrics (per epoch) and weights (per checkpoint).

How bytes travel is up to a channel: pipes between the processes of one command (:mod:`pairs_lit.workers.pipes`), or the
network between processes that torchrun, Slurm or the user started (:mod:`pairs_lit.workers.network`).
"""

import io
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import IO, Protocol, TypeVar

import torch
from torch import Tensor

from pairs_lit.errors import PairsLitError
from pairs_lit.system.signals import raise_if_stopped
from pairs_lit.system.tracebacks import format_reason

Value = TypeVar("Value")

RESUME_HINT = "Progress was saved; resume with pairs-lit fit RUN"
EPOCH_TIMEOUT = timedelta(days=1)  # an epoch may be long, and the end of another worker is noticed at once anyway
PIECE_TIMEOUT = timedelta(minutes=5)
_FAILURE_NEWS_SECONDS = 3.0  # how long to wait for the error of another worker after the connection to it has failed
_MIN_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 1e-4, 0.002
_PIECE_BYTES = 2**22
"""Number of bytes of tensors that a worker sends at a time; torch's stores accept at most twice as many."""


class Channel(Protocol):
    """Connection of a worker to the other workers. Each method raises RuntimeError, EOFError or OSError if it breaks.

    Attributes:
        rank: The rank of this worker.
    """

    rank: int

    def exchange(self, data: bytes) -> list[bytes]:
        """Return the data of all workers, ordered by rank, on every worker."""

    def send(self, piece: Tensor) -> None:
        """Send a piece, (N,) uint8 on the CPU, to rank 0."""

    def receive(self, rank: int, piece: Tensor) -> None:
        """Fill a piece, (N,) uint8 on the CPU, with the next one that another worker sends; on rank 0 only."""


class WorkerGroup:
    """Group of workers that exchange tensors and objects.

    Args:
        channel: The connection of this worker to the others.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of a CPU tensor over all workers."""
        return torch.stack(self.all_gather(tensor)).sum(0, dtype=tensor.dtype)

    def all_gather(self, part: Value) -> list[Value]:
        """Return the parts of all workers, on every worker; parts must be picklable."""
        with explain_failures():
            return [pickle.loads(data) for data in self._channel.exchange(pickle.dumps(part))]

    def gather_to_rank_zero(self, part: Value) -> list[Value]:
        """Return the parts of all workers on rank 0, and only this worker's part on all other ranks.

        Tensors are sent in pieces, so even large ones are in memory only once.
        """
        file = io.BytesIO()
        pickler = _Pickler(file)
        pickler.dump(part)
        skeleton, own_tensors = file.getvalue(), pickler.tensors
        layouts = self.all_gather((skeleton, [(tensor.shape, tensor.dtype) for tensor in own_tensors]))
        with explain_failures():
            if self._channel.rank > 0:
                for piece in _split_into_pieces(own_tensors):
                    self._channel.send(piece)
                return [part]
            others = [[torch.empty(shape, dtype=dtype) for shape, dtype in layout] for _, layout in layouts[1:]]
            for rank, tensors in enumerate(others, 1):
                for piece in _split_into_pieces(tensors):
                    self._channel.receive(rank, piece)
        received = zip(layouts[1:], others, strict=True)
        return [part, *(_Unpickler(io.BytesIO(skeleton), tensors).load() for (skeleton, _), tensors in received)]


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


def _split_into_pieces(tensors: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the bytes of tensors in pieces, as views; the tensors must be contiguous and on the CPU."""
    for tensor in tensors:
        yield from torch.split(tensor.view(-1).view(torch.uint8), _PIECE_BYTES) if tensor.numel() else ()


def wait_until(happened: Callable[[float], bool], patience: timedelta) -> None:
    """Wait until a condition holds; stop waiting if a signal arrives or another worker fails.

    Args:
        happened: Whether the condition holds; waits for it for up to the given number of seconds.
        patience: How long to wait.

    Raises:
        RuntimeError: The condition did not hold in time.
    """
    pause, deadline = _MIN_PAUSE_SECONDS, time.monotonic() + patience.total_seconds()
    while not happened(pause):
        raise_if_stopped()
        if time.monotonic() > deadline:
            raise RuntimeError("it did not answer in time")
        pause = min(2 * pause, _MAX_PAUSE_SECONDS)


@contextmanager
def explain_failures() -> Iterator[None]:
    """Replace the error of a broken channel by that of the worker that failed, or by one line that a worker ended."""
    try:
        yield
    except (RuntimeError, EOFError, OSError) as error:
        raise_if_stopped(_FAILURE_NEWS_SECONDS)
        raise PairsLitError(f"another worker ended ({format_reason(error)}). {RESUME_HINT}.") from error
