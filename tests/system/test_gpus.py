from math import inf

import pytest
import torch

from pairs_lit.system.gpus import find_device_type, list_gpus, measure_free_memory


def _set_available(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("accelerator", "cuda", "mps", "expected"),
    [
        ("cpu", 1, True, "cpu"),
        ("auto", 0, False, "cpu"),
        ("auto", 1, False, "cuda"),
        ("auto", 0, True, "mps"),  # every Mac of today
        ("gpu", 1, False, "cuda"),
        ("gpu", 0, True, "mps"),
        ("gpu", 0, False, "cuda"),  # Lightning then raises an error
        ("cuda", 0, False, "cuda"),
        ("mps", 0, False, "mps"),
        ("tpu", 0, False, "tpu"),
    ],
)
def test_device_type_is_the_one_that_lightning_chooses(
    accelerator: str, cuda: int, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set_available(monkeypatch, cuda=cuda, mps=mps)
    assert find_device_type(accelerator) == expected


@pytest.mark.parametrize(
    ("devices", "expected"),
    [("auto", [0, 1, 2]), (-1, [0, 1, 2]), (2, [0, 1]), ("2", [0, 1]), ([2], [2]), (9, [0, 1, 2])],
)
def test_list_of_the_requested_gpus(devices: object, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    _set_available(monkeypatch, cuda=3)
    assert list_gpus("cuda", devices) == [torch.device("cuda", number) for number in expected]


def test_a_mac_has_one_gpu() -> None:
    assert list_gpus("mps", "auto") == [torch.device("mps", 0)]


def test_free_memory_is_what_the_driver_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    _set_available(monkeypatch, cuda=1, mps=True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7, 10))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 10)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 4)
    assert measure_free_memory(torch.device("cuda", 0)) == 7
    assert measure_free_memory(torch.device("mps", 0)) == 6


@pytest.mark.parametrize("device", ["cpu", "meta", "cuda:0", "mps:0"])
def test_memory_that_cannot_be_queried_is_infinite(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _set_available(monkeypatch)
    assert measure_free_memory(torch.device(device)) == inf
