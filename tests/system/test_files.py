"""Files that another program has open, and paths that are too long, as Windows reports them."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.atomic_write import remove_temp_files, write_text_atomically
from pairs_lit.runs.run_folder import create_run_folder
from pairs_lit.system import files
from pairs_lit.system.files import delete_file, replace_file, try_delete_file, try_delete_folder


class OpenFile:
    """A file that another program closes after a number of attempts to change it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, function: str, attempts: float) -> None:
        self.failures, self._left, self._call = 0, attempts, getattr(os, function)
        monkeypatch.setattr(os, function, self.change)

    def change(self, *arguments: object, **options: object) -> None:
        if self.failures < self._left:
            self.failures += 1
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        self._call(*arguments, **options)


def stop(_: int) -> NoReturn:
    raise KeyboardInterrupt


def reject(code: int) -> Callable[..., NoReturn]:
    def call(*_: object, **__: object) -> NoReturn:
        raise OSError(code, "The system cannot find the path specified")

    return call


@pytest.fixture
def _windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "IS_WINDOWS", True)
    monkeypatch.setattr(files, "IN_USE_SECONDS", 0.3)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rounds.csv"
    path.write_text("old")
    return path


@pytest.mark.usefixtures("_windows")
class TestWindows:
    def test_a_file_that_is_soon_closed_is_replaced(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = OpenFile(monkeypatch, "replace", 3)
        write_text_atomically(file, "new")
        assert (file.read_text(encoding="utf-8"), opened.failures, len(list(file.parent.iterdir()))) == ("new", 3, 1)

    def test_a_file_that_stays_open_is_named(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        OpenFile(monkeypatch, "replace", float("inf"))
        message = (
            r"rounds\.csv cannot be written \(The process .*\)\. Close the program that has it open, such as Excel"
        )
        with pytest.raises(PairsLitError, match=message):
            write_text_atomically(file, "new")
        assert (file.read_text(encoding="utf-8"), len(list(file.parent.iterdir()))) == ("old", 1)

    def test_a_temporary_file_that_stays_open_does_not_hide_the_error(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        OpenFile(monkeypatch, "unlink", float("inf"))
        monkeypatch.setattr("os.fsync", stop)
        with pytest.raises(KeyboardInterrupt):
            write_text_atomically(file, "new")
        assert file.read_text(encoding="utf-8") == "old"

    def test_deleting_waits(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = OpenFile(monkeypatch, "unlink", 2)
        delete_file(file)
        assert (file.exists(), opened.failures) == (False, 2)
        delete_file(file)

    def test_deleting_a_file_that_stays_open(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        OpenFile(monkeypatch, "unlink", float("inf"))
        try_delete_file(file)
        with pytest.raises(PermissionError):
            delete_file(file)
        try_delete_folder(file.parent)
        assert file.exists()
        leftover = file.with_name(f".rounds.csv.{'0' * 32}")
        leftover.write_text("")
        with pytest.raises(PairsLitError, match=r"cannot be written .* Close the program that has it open"):
            remove_temp_files(file.parent)

    def test_a_folder_is_deleted_once_its_files_are_closed(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        OpenFile(monkeypatch, "unlink", 2)
        try_delete_folder(file.parent)
        assert not file.parent.exists()

    @pytest.mark.parametrize("code", [errno.ENOENT, errno.ENAMETOOLONG])
    def test_a_path_that_is_too_long(self, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "/".join(["x" * 50] * 5)
        folder.mkdir(parents=True)
        monkeypatch.setattr("pathlib.Path.open", reject(code))
        message = (
            r"a\.csv cannot be written \(its path of \d{3} characters is too long .*\)\. Use a folder with a shorter"
        )
        with pytest.raises(PairsLitError, match=message):
            write_text_atomically(folder / "a.csv", "x")
        monkeypatch.setattr("pathlib.Path.mkdir", reject(code))
        message = r"no run folder can be created in .* characters is too long .* Set --trainer\.default_root_dir"
        with pytest.raises(PairsLitError, match=message):
            create_run_folder(folder, "fc")

    def test_a_short_path_is_not_called_too_long(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pathlib.Path.open", reject(errno.ENOENT))
        with pytest.raises(PairsLitError, match=r"cannot be written \(The system .*\)\. Free some space"):
            write_text_atomically(file, "new")


def test_elsewhere_a_missing_permission_is_reported_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, start = OpenFile(monkeypatch, "replace", float("inf")), time.monotonic()
    with pytest.raises(
        PairsLitError, match=r"rounds\.csv cannot be written .* Free some space or change the permissions"
    ):
        write_text_atomically(file, "new")
    assert opened.failures == 1
    assert time.monotonic() - start < 1


def test_a_name_of_the_greatest_length_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / f"{'ü' * 120}.table.csv"
    write_text_atomically(path, "x")
    assert path.read_text() == "x"
    with pytest.raises(PairsLitError, match=r"its path of \d+ characters is too long for this system\)\. Use a folder"):
        write_text_atomically(tmp_path / ("x" * 300), "x")


def test_replacing_keeps_the_content(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    replace_file(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_text() == "new"
