import re
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, tzinfo
from pathlib import Path

import pytest

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.run_folder import (
    LAST_CHECKPOINT,
    check_run_name,
    create_run_folder,
    find_enclosing_run,
    is_unmarked_run,
    mark_run,
    read_run_identity,
    to_run_name,
)


class StoppedClock(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "StoppedClock":
        assert tz is UTC
        return cls(2025, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.fixture
def _stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairs_lit.runs.run_folder.datetime", StoppedClock)


def test_a_run_folder_is_named_after_config_time_and_number(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    folder = create_run_folder(tmp_path, "cnn_aux")
    assert folder.is_dir()
    assert folder.parent == tmp_path / "lightning_logs" / "cnn_aux"
    assert re.fullmatch(r"\d{8}-\d{6}-1", folder.name)
    created = datetime.strptime(folder.name, "%Y%m%d-%H%M%S-1").replace(tzinfo=UTC)
    assert before <= created <= datetime.now(UTC)


@pytest.mark.usefixtures("_stopped_clock")
def test_runs_of_the_same_second_are_numbered(tmp_path: Path) -> None:
    names = [create_run_folder(tmp_path, "fc").name for _ in range(3)]
    assert names == ["20250304-050607-1", "20250304-050607-2", "20250304-050607-3"]


@pytest.mark.usefixtures("_stopped_clock")
def test_an_existing_folder_is_never_reused(tmp_path: Path) -> None:
    taken = tmp_path / "lightning_logs" / "fc" / "20250304-050607-1"
    taken.mkdir(parents=True)
    assert create_run_folder(tmp_path, "fc") != taken


@pytest.mark.usefixtures("_stopped_clock")
def test_concurrent_runs_never_share_a_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: create_run_folder(tmp_path, "fc"), range(64)))
    assert len(set(folders)) == 64
    assert all(folder.is_dir() for folder in folders)


@pytest.mark.parametrize("name", ["cnn_aux", "run-2.1", "A", "_x", "a" * 100])
def test_plain_names_are_accepted(name: str) -> None:
    assert check_run_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../up", "a/b", "/a", "a\\b", ".b", "b.", "a b", "a\n", "é", "a\0", "~", "$HOME", "a:b", "a" * 101],
)
def test_other_names_are_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(PairsLitError, match=rf"--name must have .* letters, digits.* got {re.escape(repr(name))}\."):
        create_run_folder(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "other"), [("aux", "aux_"), ("NUL", "NUL_"), ("com1.v2", "com1_.v2")])
def test_devices_of_windows_are_rejected(name: str, other: str, tmp_path: Path) -> None:
    message = rf"--name must not be the name of a device on Windows, got '{name}'\. Use another one, such as {other}\."
    with pytest.raises(PairsLitError, match=message):
        create_run_folder(tmp_path, name)
    assert check_run_name(other) == other
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cnn_aux", "cnn_aux"),
        ("aux", "aux_"),
        ("Con.v2", "Con_.v2"),
        ("net.", "net"),
        (".net", "net"),
        ("für α: 2?", "fur_2"),
        ("漢字", "run"),
        ("x" * 99 + ".y", "x" * 99),
        ("a" * 300, "a" * 100),
    ],
)
def test_a_file_name_becomes_a_run_name(text: str, name: str) -> None:
    assert to_run_name(text) == check_run_name(name) == name


def test_names_that_differ_in_case_only_are_rejected(tmp_path: Path) -> None:
    create_run_folder(tmp_path, "Net")
    with pytest.raises(
        PairsLitError, match=r"more than upper and lower case, got net next to .*Net\. Set --name to Net"
    ):
        create_run_folder(tmp_path, "net")
    assert create_run_folder(tmp_path, "Net").parent.name == "Net"
    (tmp_path / "lightning_logs" / "net").mkdir()  # by an earlier release
    assert create_run_folder(tmp_path, "net").parent.name == "net"


@pytest.mark.skipif(sys.platform == "win32", reason="a valid path there")
def test_a_new_root_that_windows_does_not_accept_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PairsLitError, match=r"--trainer\.default_root_dir must be a name that every system accepts"):
        create_run_folder(Path("C:\\runs"), "fc")
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_a_file_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PairsLitError, match=r"no run folder can be created .* Set --trainer\.default_root_dir"):
        create_run_folder(tmp_path / "file", "fc")


def test_a_file_in_place_of_the_folder_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "lightning_logs").mkdir()
    (tmp_path / "lightning_logs" / "fc").write_text("")
    with pytest.raises(PairsLitError, match=r"no run folder can be created in .*fc \(File exists\)"):
        create_run_folder(tmp_path, "fc")


def test_the_run_of_a_checkpoint_is_found(tmp_path: Path) -> None:
    run = create_run_folder(tmp_path, "fc")
    assert find_enclosing_run(run / LAST_CHECKPOINT) == run
    assert find_enclosing_run(run / "Checkpoints" / "last.ckpt") == run
    assert find_enclosing_run(run / "checkpoints" / "epoch=1-val" / "accuracy" / "mean=0.8.ckpt") == run


def test_a_checkpoint_elsewhere_has_no_run(tmp_path: Path) -> None:
    assert find_enclosing_run(tmp_path / "saved" / "mine.ckpt") is None


def test_a_relative_checkpoint_is_found_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run" / "checkpoints")
    assert find_enclosing_run(Path("last.ckpt")) == tmp_path / "run"


def test_a_run_keeps_its_identity(tmp_path: Path) -> None:
    assert read_run_identity(tmp_path) is None
    mark_run(tmp_path)
    first = read_run_identity(tmp_path)
    mark_run(tmp_path)
    assert first is not None
    assert read_run_identity(tmp_path) == first
    (tmp_path / ".run").write_text("something else")
    assert read_run_identity(tmp_path) is None


def test_a_run_without_identity_is_recognised_by_its_path(tmp_path: Path) -> None:
    run = create_run_folder(tmp_path, "fc")
    assert not is_unmarked_run(run)
    (run / "config.yaml").write_text("")
    assert is_unmarked_run(run)
    (tmp_path / "config.yaml").write_text("")
    assert not is_unmarked_run(tmp_path)
