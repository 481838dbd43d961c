"""Write errors: a full disk or read-only folder is reported in one line, and the run can be resumed later."""

import errno
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pairs_lit.cli import main
from tests.conftest import CONFIGS

TABLES = ("rounds.csv", "curves.csv")
WRITTEN = (".run", "config.yaml", "last.ckpt", "curves.csv", "rounds.csv", "summary.json")
Order = Callable[[Path], list[str]]


@pytest.fixture(autouse=True)
def _checkpoint_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairs_lit.checkpoints.last_checkpoint.SAVE_INTERVAL_SECONDS", 0.0)


@pytest.fixture
def order(tiny_options: list[str]) -> Order:
    def arguments(root: Path) -> list[str]:
        config = ["--config", str(CONFIGS / "fc_aux.yaml"), "--trainer.enable_progress_bar", "false"]
        return ["fit", *config, *tiny_options, "--trainer.default_root_dir", str(root)]

    return arguments


@pytest.fixture
def whole(order: Order, tmp_path: Path) -> Path:
    assert main(order(tmp_path / "whole")) == 0
    (run,) = (tmp_path / "whole").glob("lightning_logs/*/*")
    return run


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def finished(root: Path, first: list[str]) -> Path:
    checkpoints = list(root.glob("lightning_logs/*/*/checkpoints/last.ckpt"))
    if not checkpoints:
        before = set(root.glob("lightning_logs/*/*"))
        assert main(first) == 0
        (run,) = set(root.glob("lightning_logs/*/*")) - before
        return run
    run = checkpoints[0].parent.parent
    assert main(["fit", "--config", str(run / "config.yaml"), "--ckpt_path", str(checkpoints[0])]) == 0
    return run


def check_no_leftovers(root: Path) -> None:
    assert not [path for path in root.rglob("*") if re.search(r"\.[0-9a-f]{32}$", path.name)]


def failing_sync(monkeypatch: pytest.MonkeyPatch, code: int, when: Callable[[str], bool]) -> None:
    """Make fsync fail for files whose temporary names satisfy ``when``."""
    sync = os.fsync

    def fail(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        if when(name):
            raise OSError(code, os.strerror(code))
        sync(descriptor)

    monkeypatch.setattr("pairs_lit.runs.atomic_write.os.fsync", fail)


@pytest.mark.parametrize("file", WRITTEN)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EROFS])
@pytest.mark.quick(2)
def test_failed_write_names_the_file_and_the_run_can_be_resumed(
    order: Order, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, code: int
) -> None:
    root = tmp_path / "broken"
    with pytest.MonkeyPatch.context() as broken:
        failing_sync(broken, code, lambda name: name.startswith(f".{file}."))
        message = refused(order(root), capsys)
    assert re.search(
        rf"{file} cannot be written \({os.strerror(code)}\). Free some space or change the permissions", message
    )
    assert not list(root.rglob(file))
    check_no_leftovers(root)
    run = finished(root, order(root))
    assert all((run / table).read_bytes() == (whole / table).read_bytes() for table in TABLES)


def test_previous_checkpoint_survives_a_failed_write(
    order: Order, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, seen = tmp_path / "broken", []

    def second(name: str) -> bool:
        seen.extend([name] if name.startswith(".last.ckpt.") else [])
        return len(seen) > 1

    with pytest.MonkeyPatch.context() as broken:
        failing_sync(broken, errno.ENOSPC, second)
        assert "last.ckpt cannot be written" in refused(order(root), capsys)
    assert len(list(root.rglob("last.ckpt"))) == 1
    run = finished(root, order(root))
    assert all((run / table).read_bytes() == (whole / table).read_bytes() for table in TABLES)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one mebibyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a disk needs root privileges")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize("free", [0, 4, 12, 40, 80, 120, 160])
@pytest.mark.quick(1)
def test_full_disk_is_reported_and_the_run_can_be_resumed(
    order: Order, whole: Path, small_disk: Path, capsys: pytest.CaptureFixture[str], free: int
) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1024 * (1024 - free)))
    arguments = order(small_disk)
    message = refused(arguments, capsys)
    assert re.search(r"cannot be written|no run folder can be made", message)
    assert str(small_disk) in message
    assert "No space left on device" in message
    check_no_leftovers(small_disk)
    filler.unlink()
    run = finished(small_disk, arguments)
    assert all((run / table).read_bytes() == (whole / table).read_bytes() for table in TABLES)
