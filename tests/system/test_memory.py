import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pairs_lit.system.memory import keep_freed_memory
from tests.conftest import Fit


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is done")
def test_the_c_library_accepts_to_keep_freed_memory() -> None:
    assert keep_freed_memory() is True


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel counts page faults elsewhere in other ways")
@pytest.mark.slow
def test_a_large_block_is_not_mapped_anew_each_time() -> None:
    """In a process of its own: the heap of one that has run other tests may be in pieces."""
    code = (
        "import resource, torch\n"
        "from pairs_lit.system.memory import keep_freed_memory\n"
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


@pytest.mark.slow
def test_other_packages_do_not_write_about_a_home_that_cannot_be_written(fit: Fit, tmp_path: Path) -> None:
    """No folder can be made below a file."""
    run = fit("--rounds.count", "2", config="fc_aux")
    home = tmp_path / "home"
    home.touch()
    around = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "MPL", "ORT_"))}
    calls = [
        ["export", str(run), "--to", "onnx"],
        ["inspect", str(run)],
        ["compare", str(run), str(run), "--figure", "a.png"],
    ]
    for call in calls:
        command = [sys.executable, "-m", "pairs_lit", *call]
        environment = around | {"HOME": str(home / "below")}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        assert all(line.startswith("pairs-lit: ") for line in done.stderr.splitlines()), done.stderr
