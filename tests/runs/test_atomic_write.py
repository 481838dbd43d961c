import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.atomic_write import write_atomically, write_text_atomically


def disk_full(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def break_midway(error: BaseException) -> Callable[[IO[bytes]], None]:
    def write(file: IO[bytes]) -> None:
        file.write(b"half of the new")
        file.flush()
        raise error

    return write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@settings(deadline=None, max_examples=30)
@given(content=st.binary(max_size=5000))
def test_the_content_is_written_whole(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "whole.bin"
    write_atomically(path, lambda file: file.write(content))
    assert path.read_bytes() == content


def test_text_is_utf_8_with_its_line_ends_kept(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "text.txt", "0.87 ± 0.01\nend\r\n")
    assert (tmp_path / "text.txt").read_bytes() == "0.87 ± 0.01\nend\r\n".encode()


def test_the_folder_is_made_and_holds_nothing_else(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "a" / "b" / "text.txt", "x")
    assert names(tmp_path / "a" / "b") == ["text.txt"]


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    for text in ("a long old text", "new"):
        write_text_atomically(tmp_path / "text.txt", text)
    assert (tmp_path / "text.txt").read_text() == "new"
    assert names(tmp_path) == ["text.txt"]


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path, error: BaseException) -> None:
    write_text_atomically(tmp_path / "text.txt", "old")
    with pytest.raises(type(error)):
        write_atomically(tmp_path / "text.txt", break_midway(error))
    assert (tmp_path / "text.txt").read_text() == "old"
    assert names(tmp_path) == ["text.txt"]


def test_an_interrupted_write_of_a_new_file_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(PairsLitError, match=r"text\.txt cannot be written \(No space left on device\)"):
        write_atomically(tmp_path / "text.txt", break_midway(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    assert names(tmp_path) == []


@pytest.mark.parametrize("place", ["pairs_lit.runs.atomic_write.os.fsync", "pathlib.Path.replace"])
def test_a_full_disk_gives_one_line_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    write_text_atomically(tmp_path / "text.txt", "old")
    monkeypatch.setattr(place, disk_full)
    with pytest.raises(PairsLitError, match=r"text\.txt cannot be written \(No space left on device\)\. Free"):
        write_text_atomically(tmp_path / "text.txt", "new")
    assert (tmp_path / "text.txt").read_text() == "old"
    assert names(tmp_path) == ["text.txt"]


def test_the_content_reaches_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, bool]] = []
    sync = os.fsync

    def watch(descriptor: int) -> None:
        seen.append((os.fstat(descriptor).st_size, (tmp_path / "text.txt").exists()))
        sync(descriptor)

    monkeypatch.setattr("pairs_lit.runs.atomic_write.os.fsync", watch)
    write_text_atomically(tmp_path / "text.txt", "12345")
    assert seen[0] == (5, False)


def test_the_temporary_file_is_in_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path] = []
    rename = Path.replace

    def watch(path: Path, target: Path) -> Path:
        folders.append(path.parent)
        return rename(path, target)

    monkeypatch.setattr("pathlib.Path.replace", watch)
    write_text_atomically(tmp_path / "run" / "text.txt", "x")
    assert folders == [tmp_path / "run"]


def test_a_folder_that_is_a_file_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PairsLitError, match=r"file/text\.txt cannot be written"):
        write_text_atomically(tmp_path / "file" / "text.txt", "x")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_name_that_is_a_folder_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(PairsLitError, match="taken cannot be written"):
        write_text_atomically(tmp_path / "taken", "x")
    assert names(tmp_path) == ["taken"]
