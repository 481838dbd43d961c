"""Tests of the number of workers, which depends on cores, quotas, srun and torchrun."""

import multiprocessing
from pathlib import Path

import pytest

from pairs_lit.errors import PairsLitError
from pairs_lit.workers import cluster as clusters
from tests.support.worker_runs import (
    BuildArguments,
    build_srun_environment,
    check_same,
    needs_linux,
    run_fit,
    set_torchrun_environment,
)

pytestmark = needs_linux


def choose(devices: object, *, stacks: int = 4, nodes: int = 1, on_cpu: bool = True, threads: int = 1) -> object:
    return clusters.choose_num_workers(devices, nodes, on_cpu=on_cpu, stacks=stacks, threads=threads)


@pytest.mark.parametrize("nodes", [None, 0, -1])
def test_invalid_number_of_nodes_is_rejected(nodes: int | None) -> None:
    with pytest.raises(PairsLitError, match=r"num_nodes must be 1 or more, got .*\."):
        clusters.choose_num_workers("auto", nodes, on_cpu=True, stacks=2, threads=1)


def test_each_worker_needs_one_core_per_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "count_usable_cores", lambda: 6)
    assert choose("auto", stacks=10) == (6, 1)
    assert choose("auto", stacks=10, threads=2) == (3, 1)
    assert choose("auto", stacks=10, threads=7) == (1, 1)
    assert choose("auto", stacks=4) == (4, 1)
    assert choose(-1, stacks=4) == choose("-1", stacks=4) == (4, 1)
    assert choose(3) == (3, 1)
    assert choose("3") == ("3", 1)


def test_no_more_workers_than_stacks_are_started(capsys: pytest.CaptureFixture[str]) -> None:
    assert choose(9, stacks=4) == (4, 1)
    assert "trainer.devices is 9, but the rounds form 4 stacks, so 4 workers will train" in capsys.readouterr().err


@pytest.mark.parametrize("devices", [0, "0", -2, "some", [0], "1.5"])
def test_invalid_number_of_devices_is_rejected(devices: object) -> None:
    with pytest.raises(PairsLitError, match="must be auto or a number of workers, 1 or more, got"):
        choose(devices)


def test_worker_of_a_multiprocessing_pool_starts_no_workers(
    order: BuildArguments, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "count_usable_cores", lambda: 6)
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    assert choose("auto") == (1, 1)
    assert choose(1) == (1, 1)
    with pytest.raises(PairsLitError, match=r"trainer\.devices is 2, but this is a worker of a multiprocessing\.Pool"):
        choose(2)
    check_same(run_fit(order(tmp_path), tmp_path), alone)


def test_torchrun_determines_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    set_torchrun_environment(monkeypatch, 2, 4)
    assert choose("auto") == (2, 2)
    assert choose(2) == (2, 2)
    with pytest.raises(PairsLitError, match=r"trainer\.devices is 3, but 2 processes per node were started\. Leave"):
        choose(3)
    with pytest.raises(PairsLitError, match=r"4 processes were started, but the rounds form 3 stacks\. Start at most"):
        choose("auto", stacks=3)
    set_torchrun_environment(monkeypatch, 2, 3)
    with pytest.raises(PairsLitError, match=r"3 processes were started on 2 nodes\. Start the same number"):
        choose("auto")


def test_srun_determines_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (build_srun_environment(0, 1, size=4) | {"SLURM_NNODES": "2"}).items():
        monkeypatch.setenv(name, value)
    assert choose("auto") == (2, 2)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    with pytest.raises(PairsLitError, match=r"3 processes were started on 2 nodes\. Start the same number"):
        choose("auto")
