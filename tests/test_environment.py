import ctypes
import sys

import pytest

from pairs_lit.environment import keep_freed_memory


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is done")
def test_the_c_library_accepts_to_keep_freed_memory() -> None:
    assert keep_freed_memory() is True


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel counts page faults elsewhere in other ways")
def test_a_large_block_is_not_mapped_anew_each_time() -> None:
    import resource

    import torch

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.ones(4_000_000)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    keep_freed_memory()
    faults()
    assert faults() < 10 * 4_000_000 * 4 / 4096 / 5  # a page a 4 KB, had each block been mapped anew


def test_another_system_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    monkeypatch.setattr(sys, "platform", "linux")
    assert keep_freed_memory() is False
