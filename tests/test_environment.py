import ctypes
import subprocess
import sys

import pytest

from pairs_lit.environment import keep_freed_memory


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is done")
def test_the_c_library_accepts_to_keep_freed_memory() -> None:
    assert keep_freed_memory() is True


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel counts page faults elsewhere in other ways")
@pytest.mark.slow
def test_a_large_block_is_not_mapped_anew_each_time() -> None:
    """In a process of its own: the heap of one that has run other tests may be in pieces."""
    code = (
        "import resource, torch\n"
        "from pairs_lit.environment import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "for _ in range(10): torch.ones(4_000_000)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(10): torch.ones(4_000_000)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    faults = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
    assert faults < 10 * 4_000_000 * 4 / 4096 / 5  # a page a 4 KB, had each block been mapped anew


def test_another_system_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    monkeypatch.setattr(sys, "platform", "linux")
    assert keep_freed_memory() is False
