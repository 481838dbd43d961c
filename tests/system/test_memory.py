import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pairs_lit.system.memory import tune_malloc
from tests.conftest import Fit


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is supported")
def test_malloc_accepts_the_settings() -> None:
    assert tune_malloc() is True


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels count page faults differently")
@pytest.mark.slow
def test_large_blocks_are_reused() -> None:
    """The check needs a new process, because other tests may have fragmented the heap of this one."""
    code = (
        "import resource, torch\n"
        "from pairs_lit.system.memory import tune_malloc\n"
        "tune_malloc()\n"
        "for _ in range(10): torch.ones(4_000_000)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(10): torch.ones(4_000_000)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    faults = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
    assert faults < 10 * 4_000_000 * 4 / 4096 / 5  # mapping each block again would cause one page fault per 4 KB


def test_other_operating_systems_are_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert tune_malloc() is False


def test_other_c_libraries_are_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    monkeypatch.setattr(sys, "platform", "linux")
    assert tune_malloc() is False


@pytest.mark.slow
def test_other_packages_do_not_warn_about_a_read_only_home(fit: Fit, tmp_path: Path) -> None:
    """The home is below a file, so it cannot be created."""
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
