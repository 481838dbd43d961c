"""Tests of the collectives between workers."""

import sys
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
import torch

from pairs_lit.errors import PairsLitError
from pairs_lit.system.signals import ask_to_end, forget_failures
from pairs_lit.workers import communication as exchange_module
from pairs_lit.workers.communication import Exchange, local_store
from pairs_lit.workers.strategy import StackStrategy
from tests.support import kill_targets
from tests.support.worker_runs import ON_LINUX, free_port

pytestmark = ON_LINUX


def _member(rank: int, size: int, port: int, answers: Any) -> None:  # noqa: ANN401 - a queue
    store = local_store(port, size, first=rank == 0, listening=None)
    exchange = Exchange(store, rank, size, alone=True)
    strategy = StackStrategy(parallel_devices=[torch.device("cpu")] * size)
    strategy._exchange = exchange
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
        "gathered": strategy.gathered("x" * 1000 * rank),
    }
    strategy.barrier()
    answers.put((rank, results))


def test_collectives_of_tensors_and_objects_of_any_size() -> None:
    context, port = kill_targets.FORKS, free_port()
    answers = context.Queue()
    members = [context.Process(target=_member, args=(rank, 2, port, answers)) for rank in range(2)]
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


def _parts(rank: int) -> dict[str, Any]:
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


def _passing_on(rank: int, size: int, port: int, answers: Any) -> None:  # noqa: ANN401 - a queue
    exchange_module._PIECE = 50  # so small that a tensor is sent in several pieces
    store = local_store(port, size, first=rank == 0, listening=None)
    gathered = Exchange(store, rank, size, alone=True).gathered_by_first(_parts(rank))
    expected = [_parts(other) for other in range(size)] if rank == 0 else [_parts(rank)]
    answers.put((rank, _alike(gathered, expected)))


def _alike(actual: Any, expected: Any) -> bool:  # noqa: ANN401 - nested
    if isinstance(expected, torch.Tensor):
        return actual.dtype == expected.dtype and torch.equal(actual, expected)
    if isinstance(expected, dict):
        return actual.keys() == expected.keys() and all(_alike(actual[key], item) for key, item in expected.items())
    if isinstance(expected, list):
        return len(actual) == len(expected) and all(map(_alike, actual, expected))
    return bool(actual == expected)


@pytest.mark.parametrize("size", [2, 3])
def test_rank_0_receives_every_tensor_in_pieces(size: int) -> None:
    context, port = kill_targets.FORKS, free_port()
    answers = context.Queue()
    members = [context.Process(target=_passing_on, args=(rank, size, port, answers)) for rank in range(size)]
    for member in members:
        member.start()
    results = dict(answers.get(timeout=60) for _ in members)
    for member in members:
        member.join()
    assert results == dict.fromkeys(range(size), True)


def _keeping_what_it_has(port: int, met: Any) -> None:  # noqa: ANN401 - an event
    exchange = Exchange(local_store(port, 2, first=False, listening=None), 1, 2, alone=True)
    met.set()
    exchange.gathered((b"", [(torch.Size([2**24]), torch.float32)]))  # announces a tensor, but never sends it
    time.sleep(60)


def _waiting_for_it(port: int, patience: float) -> None:
    exchange_module._MEETING = timedelta(seconds=patience)
    exchange = Exchange(local_store(port, 2, first=True, listening=None), 0, 2, alone=True)
    if patience > 1:
        threading.Timer(0.5, ask_to_end, [PairsLitError("told to end")]).start()
    try:
        exchange.gathered_by_first([])
    except PairsLitError as error:
        sys.exit(17 if "told to end" in str(error) else 19 if "did not answer in time" in str(error) else 18)


@pytest.mark.parametrize(("patience", "code"), [(60.0, 17), (0.2, 19)])
@pytest.mark.slow
def test_waiting_for_a_large_tensor_can_be_interrupted(patience: float, code: int) -> None:
    context, port = kill_targets.FORKS, free_port()
    met = context.Event()
    other = context.Process(target=_keeping_what_it_has, args=(port, met))
    first = context.Process(target=_waiting_for_it, args=(port, patience))
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
    store = local_store(free_port(), 2, first=True, listening=None)
    ask_to_end(PairsLitError("worker 1 is gone"))
    try:
        with pytest.raises(PairsLitError, match="worker 1 is gone"):
            Exchange(store, 0, 2, alone=True)
    finally:
        forget_failures()
