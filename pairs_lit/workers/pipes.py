"""Channel between the workers of one command: a pipe between worker 0 and each other worker.

Pipes need no port and work on every operating system, while gloo is missing in many builds of torch for Windows.
"""

import pickle
from collections.abc import Sequence
from datetime import timedelta
from multiprocessing.connection import Connection

from torch import Tensor

from pairs_lit.workers.communication import EPOCH_TIMEOUT, PIECE_TIMEOUT, wait_until


class PipeChannel:
    """Channel over pipes.

    Args:
        rank: The rank of this worker.
        pipes: On rank 0, the pipes to workers 1, 2 and so on; on other ranks, the pipe to worker 0.

    Attributes:
        rank: As in the arguments.
    """

    def __init__(self, rank: int, pipes: Sequence[Connection]) -> None:
        self.rank = rank
        self._pipes = pipes

    def exchange(self, data: bytes) -> list[bytes]:
        """Return the data of all workers, ordered by rank, on every worker."""
        if self.rank > 0:
            self._pipes[0].send_bytes(data)
            return _load_parts(_wait_for_data(self._pipes[0], EPOCH_TIMEOUT).recv_bytes())
        parts = [data, *(_wait_for_data(pipe, EPOCH_TIMEOUT).recv_bytes() for pipe in self._pipes)]
        answer = pickle.dumps(parts)
        for pipe in self._pipes:
            pipe.send_bytes(answer)
        return parts

    def send(self, piece: Tensor) -> None:
        """Send a piece, (N,) uint8 on the CPU, to rank 0."""
        self._pipes[0].send_bytes(piece.numpy().data)

    def receive(self, rank: int, piece: Tensor) -> None:
        """Fill a piece, (N,) uint8 on the CPU, with the next one that another worker sends; on rank 0 only."""
        _wait_for_data(self._pipes[rank - 1], PIECE_TIMEOUT).recv_bytes_into(piece.numpy())


def _load_parts(answer: bytes) -> list[bytes]:
    """Return the parts in worker 0's answer."""
    parts: list[bytes] = pickle.loads(answer)
    return parts


def _wait_for_data(pipe: Connection, patience: timedelta) -> Connection:
    """Return a pipe as soon as it has data, or has ended."""
    wait_until(pipe.poll, patience)
    return pipe
