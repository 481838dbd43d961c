"""Tests of the collectives between workers."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
import torch

from pairs_lit.errors import PairsLitError
from pairs_lit.system.signals import clear_worker_failures, report_worker_failure
from pairs_lit.workers import communication, network, pipes
from pairs_lit.workers.communication import Channel, WorkerGroup
from pairs_lit.workers.network import NetworkChannel, build_local_store
from pairs_lit.workers.pipes import PipeChannel
from pairs_lit.workers.strategy import StackStrategy
from tests.support import kill_targets
from tests.support.worker_runs import find_free_port, needs_linux

pytestmark = needs_linux
CHANNELS = ("pipes", "network")
Meeting = int | Sequence[Connection]
"""A port, or the pipes of one worker."""


def _plan_meetings(kind: str, size: int) -> list[Meeting]:
    """Return what each worker needs to meet the others."""
    if kind == "network":
        return [find_free_port()] * size
    ends = [kill_targets.FORK_SERVER.Pipe() for _ in range(1, size)]
    return [[end for end, _ in ends], *([end] for _, end in ends)]


def _open_channel(meeting: Meeting, rank: int, size: int) -> Channel:
    if not isinstance(meeting, int):
        return PipeChannel(rank, meeting)
    return NetworkChannel(build_local_store(meeting, size, first=rank == 0), rank, size, alone=True)


def _start_members(run: Callable[..., None], kind: str, size: int, *args: object) -> list[BaseProcess]:
    """Start a process for each worker; the pipes are closed here, so that a worker notices the end of another one."""
    meetings = _plan_meetings(kind, size)
    members: list[BaseProcess] = [
        kill_targets.FORK_SERVER.Process(target=run, args=(rank, size, meeting, *args))
        for rank, meeting in enumerate(meetings)
    ]
    for member in members:
        member.start()
    for meeting in meetings:
        for end in [] if isinstance(meeting, int) else meeting:
            end.close()
    return members


def _run_member(rank: int, size: int, meeting: Meeting, answers: Any) -> None:  # noqa: ANN401 - a queue
    strategy = StackStrategy(parallel_devices=[torch.device("cpu")] * size)
    strategy._worker_group = WorkerGroup(_open_channel(meeting, rank, size))
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
        "gathered": strategy.gather_parts("x" * 1_000_000 * rank),  # more than a pipe holds
    }
    strategy.barrier()
    answers.put((rank, results))


@pytest.mark.parametrize("kind", CHANNELS)
def test_collectives_of_tensors_and_objects_of_any_size(kind: str) -> None:
    answers = kill_targets.FORK_SERVER.Queue()
    members = _start_members(_run_member, kind, 2, answers)
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
            "gathered": ["", "x" * 1_000_000],
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


def _gather_in_pieces(rank: int, size: int, meeting: Meeting, answers: Any) -> None:  # noqa: ANN401 - a queue
    communication._PIECE_BYTES = 50  # so small that a tensor is sent in several pieces
    gathered = WorkerGroup(_open_channel(meeting, rank, size)).gather_to_rank_zero(_build_parts(rank))
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


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("size", [2, 3])
def test_rank_0_receives_every_tensor_in_pieces(size: int, kind: str) -> None:
    answers = kill_targets.FORK_SERVER.Queue()
    members = _start_members(_gather_in_pieces, kind, size, answers)
    results = dict(answers.get(timeout=60) for _ in members)
    for member in members:
        member.join()
    assert results == dict.fromkeys(range(size), True)


def _wait_in_vain(rank: int, size: int, meeting: Meeting, patience: float, what_happens: str) -> None:
    """Announce a tensor and never send it on rank 1, and wait for it on rank 0."""
    for module in (pipes, network):
        module.PIECE_TIMEOUT = timedelta(seconds=patience)  # type: ignore[attr-defined] # imported there
    group = WorkerGroup(_open_channel(meeting, rank, size))
    if rank == 1:
        group.all_gather((b"", [(torch.Size([2**24]), torch.float32)]))
        time.sleep(60)
    if what_happens == "told to end":
        threading.Timer(0.5, report_worker_failure, [PairsLitError("told to end")]).start()
    try:
        group.gather_to_rank_zero([])
    except PairsLitError as error:
        sys.exit(17 if what_happens in str(error) else 18)


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize(("patience", "what_happens"), [(60.0, "told to end"), (0.2, "did not answer in time")])
@pytest.mark.quick(1)
def test_waiting_for_a_large_tensor_can_be_interrupted(patience: float, what_happens: str, kind: str) -> None:
    first, other = _start_members(_wait_in_vain, kind, 2, patience, what_happens)
    try:
        first.join(20)
        assert first.exitcode == 17
    finally:
        first.kill()
        other.kill()


def _expect_end(rank: int, size: int, meeting: Meeting, answers: Any) -> None:  # noqa: ANN401 - a queue
    """End at once on rank 1, and report the error of the next collective on rank 0."""
    group = WorkerGroup(_open_channel(meeting, rank, size))
    group.all_gather(None)
    if rank == 0:
        with pytest.raises(PairsLitError) as caught:
            group.all_gather(None)
        answers.put(str(caught.value))


@pytest.mark.parametrize("kind", CHANNELS)
def test_end_of_another_worker_is_noticed_at_once(kind: str) -> None:
    answers = kill_targets.FORK_SERVER.Queue()
    members = _start_members(_expect_end, kind, 2, answers)
    assert answers.get(timeout=30).startswith("another worker ended (")
    for member in members:
        member.join()


def test_waiting_for_a_missing_worker_raises_its_error() -> None:
    store = build_local_store(find_free_port(), 2, first=True)
    report_worker_failure(PairsLitError("worker 1 is gone"))
    try:
        with pytest.raises(PairsLitError, match="worker 1 is gone"):
            NetworkChannel(store, 0, 2, alone=True)
    finally:
        clear_worker_failures()


def test_channel_over_the_network_needs_gloo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_gloo_available", lambda: False)
    with pytest.raises(PairsLitError, match=r"need gloo, which this build of torch lacks\. Start pairs-lit once"):
        NetworkChannel(None, 0, 2, alone=True)
