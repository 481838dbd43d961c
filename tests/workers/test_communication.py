"""Tests of the collectives between workers."""

import sys
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
import torch

from pairs_lit.errors import PairsLitError
from pairs_lit.system.signals import clear_worker_failures, report_worker_failure
from pairs_lit.workers import communication as exchange_module
from pairs_lit.workers.communication import WorkerGroup, build_local_store
from pairs_lit.workers.strategy import StackStrategy
from tests.support import kill_targets
from tests.support.worker_runs import find_free_port, needs_linux

pytestmark = needs_linux


def _run_member(rank: int, size: int, port: int, answers: Any) -> None:  # noqa: ANN401 - a queue
    store = build_local_store(port, size, first=rank == 0, listening=None)
    exchange = WorkerGroup(store, rank, size, alone=True)
    exchange.connect()
    strategy = StackStrategy(parallel_devices=[torch.device("cpu")] * size)
    strategy._worker_group = exchange
    strategy.set_world_ranks = lambda: None  # type: ignore[method-assign]
    monkey: Any = StackStrategy
    monkey.world_size = property(lambda self: size)
    tensor = torch.tensor([rank + 1.0, 10.0])
    results = {
        "sum": strategy.reduce(tensor, reduce_op="sum").tolist(),
        "mean": strategy.reduce(tensor).tolist(),
        "own": tensor.tolist(),
        "text": strategy.reduce("text"),
        "broadcast": strategy.broadcast({"from": rank}, src=1),
        "all": strategy.all_gather(tensor).tolist(),
        "gathered": strategy.gather_parts("x" * 1000 * rank),
    }
    strategy.barrier()
    answers.put((rank, results))


def test_collectives_of_tensors_and_objects_of_any_size() -> None:
    context, port = kill_targets.FORK_SERVER, find_free_port()
    answers = context.Queue()
    members = [context.Process(target=_run_member, args=(rank, 2, port, answers)) for rank in range(2)]
    for member in members:
        member.start()
    results = dict(answers.get(timeout=60) for _ in members)
    for member in members:
        member.join()
    for rank in range(2):
        assert results[rank] == {
            "sum": [3.0, 20.0],
            "mean": [1.5, 10.0],
            "own": [rank + 1.0, 10.0],
            "text": "text",
            "broadcast": {"from": 1},
            "all": [[1.0, 10.0], [2.0, 10.0]],
            "gathered": ["", "x" * 1000],
        }


def _build_parts(rank: int) -> dict[str, Any]:
    """Return objects that differ between workers: tensors of several shapes and dtypes, and other types."""
    values = torch.arange(30.0 + 7 * rank)
    return {
        f"weights {rank}": values,
        "columns": values[:6].view(2, 3).t(),
        "half": values.bfloat16(),
        "flags": values > 3,
        "scalar": torch.tensor(rank),
        "nothing": torch.empty(0, 3),
        "words": ["text", {"rank": rank}],
    }


def _gather_in_pieces(rank: int, size: int, port: int, answers: Any) -> None:  # noqa: ANN401 - a queue
    exchange_module._PIECE_BYTES = 50  # so small that a tensor is sent in several pieces
    store = build_local_store(port, size, first=rank == 0, listening=None)
    exchange = WorkerGroup(store, rank, size, alone=True)
    exchange.connect()
    gathered = exchange.gather_to_rank_zero(_build_parts(rank))
    expected = [_build_parts(other) for other in range(size)] if rank == 0 else [_build_parts(rank)]
    answers.put((rank, _is_equal(gathered, expected)))


def _is_equal(actual: Any, expected: Any) -> bool:  # noqa: ANN401 - nested
    if isinstance(expected, torch.Tensor):
        return actual.dtype == expected.dtype and torch.equal(actual, expected)
    if isinstance(expected, dict):
        return actual.keys() == expected.keys() and all(_is_equal(actual[key], item) for key, item in expected.items())
    if isinstance(expected, list):
        return len(actual) == len(expected) and all(map(_is_equal, actual, expected))
    return bool(actual == expected)


@pytest.mark.parametrize("size", [2, 3])
def test_rank_0_receives_every_tensor_in_pieces(size: int) -> None:
    context, port = kill_targets.FORK_SERVER, find_free_port()
    answers = context.Queue()
    members = [context.Process(target=_gather_in_pieces, args=(rank, size, port, answers)) for rank in range(size)]
    for member in members:
        member.start()
    results = dict(answers.get(timeout=60) for _ in members)
    for member in members:
        member.join()
    assert results == dict.fromkeys(range(size), True)


def _send_nothing(port: int, met: Any) -> None:  # noqa: ANN401 - an event
    exchange = WorkerGroup(build_local_store(port, 2, first=False, listening=None), 1, 2, alone=True)
    exchange.connect()
    met.set()
    exchange.all_gather((b"", [(torch.Size([2**24]), torch.float32)]))  # announces a tensor, but never sends it
    time.sleep(60)


def _wait_for_tensor(port: int, patience: float) -> None:
    exchange_module._MEETING_TIMEOUT = timedelta(seconds=patience)
    exchange = WorkerGroup(build_local_store(port, 2, first=True, listening=None), 0, 2, alone=True)
    exchange.connect()
    if patience > 1:
        threading.Timer(0.5, report_worker_failure, [PairsLitError("told to end")]).start()
    try:
        exchange.gather_to_rank_zero([])
    except PairsLitError as error:
        sys.exit(17 if "told to end" in str(error) else 19 if "did not answer in time" in str(error) else 18)


@pytest.mark.parametrize(("patience", "code"), [(60.0, 17), (0.2, 19)])
@pytest.mark.slow
def test_waiting_for_a_large_tensor_can_be_interrupted(patience: float, code: int) -> None:
    context, port = kill_targets.FORK_SERVER, find_free_port()
    met = context.Event()
    other = context.Process(target=_send_nothing, args=(port, met))
    first = context.Process(target=_wait_for_tensor, args=(port, patience))
    other.start()
    first.start()
    try:
        first.join(20)
        assert met.is_set()
        assert first.exitcode == code
    finally:
        first.kill()
        other.kill()


def test_waiting_for_a_missing_worker_raises_its_error() -> None:
    store = build_local_store(find_free_port(), 2, first=True, listening=None)
    report_worker_failure(PairsLitError("worker 1 is gone"))
    try:
        with pytest.raises(PairsLitError, match="worker 1 is gone"):
            WorkerGroup(store, 0, 2, alone=True).connect()
    finally:
        clear_worker_failures()
