"""Run folders of Windows, files changed by its programs, and its rule that open files cannot be changed."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import pairs_lit
from pairs_lit.cli import main
from pairs_lit.sweeps.spec import read_spec
from tests.conftest import Fit
from tests.support.runs import read_tables
from tests.support.sweeps import build_spec, build_tiny_changes

CHECKPOINT = "--trainer.callbacks=lightning.pytorch.callbacks.ModelCheckpoint"


@pytest.fixture
def base(tiny_root: Path, tmp_path: Path) -> dict[str, object]:
    return build_tiny_changes(tiny_root, tmp_path)


def save_as_on_windows(path: Path) -> None:
    """Give a text file Windows' line ends and a byte order mark, as Notepad and Excel do."""
    lines = path.read_text(encoding="utf-8").replace("\n", "\r\n")
    path.write_bytes(lines.encode("utf-8-sig"))


# --- files changed by Windows' programs ---


def test_a_run_edited_on_windows_is_the_same_run(fit: Fit, tiny_root: Path) -> None:
    run = fit(config="fc_aux")
    edited = Path(shutil.copytree(run, run.parent / "edited"))
    for name in ("config.yaml", "rounds.csv", "curves.csv", "summary.json", ".run"):
        save_as_on_windows(edited / name)
    first, second = pairs_lit.Run.load(run), pairs_lit.Run.load(edited)
    assert second.rounds == first.rounds
    assert second.curves.seeds == first.curves.seeds
    assert second.data == first.data
    assert main(["fit", str(edited), "--trainer.max_epochs", "3"]) == 0
    assert main(["fit", str(run), "--trainer.max_epochs", "3"]) == 0
    assert read_tables(edited) == read_tables(run)
    assert b"\r" not in b"".join(read_tables(edited))


def test_a_sweep_file_and_a_list_of_pairs_of_windows(fit: Fit, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(yaml.safe_dump(build_spec()), encoding="utf-8")
    expected = read_spec(sweep)
    save_as_on_windows(sweep)
    assert read_spec(sweep) == expected
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 12:16] = 255
    Image.fromarray(image).save(tmp_path / "größe.png")
    (tmp_path / "pairs.csv").write_text("left;right\ngröße.png;größe.png\n", encoding="utf-8")
    save_as_on_windows(tmp_path / "pairs.csv")
    output = tmp_path / "table.csv"
    options = ["--pairs", str(tmp_path / "pairs.csv"), "--format", "csv", "--output", str(output)]
    assert main(["apply", str(fit(config="fc_aux")), *options]) == 0
    assert b"\r" not in output.read_bytes()
    assert "größe.png" in output.read_text(encoding="utf-8")


# --- run folders of Windows ---


@pytest.fixture
def windows_run(fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose config.yaml and checkpoint contain absolute paths of Windows."""
    if sys.platform == "win32":
        pytest.skip("the paths would be written to there")
    run = fit(CHECKPOINT, config="fc_aux")
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    config["data"]["root"], config["trainer"]["default_root_dir"] = "C:\\Users\\me\\data", "C:\\Users\\me\\runs"
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    return run


def test_a_run_of_windows_can_be_used(windows_run: Path, tiny_root: Path) -> None:
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 12:16] = 255
    assert pairs_lit.Run.load(windows_run).apply([(image, image)]).pairs
    assert main(["compare", str(windows_run), str(windows_run)]) == 0
    data = ["--data.root", str(tiny_root)]
    assert main(["test", str(windows_run), *data]) == 0
    assert main(["predict", str(windows_run), *data]) == 0
    assert main(["fit", str(windows_run), *data, "--trainer.max_epochs", "3"]) == 0
    assert pairs_lit.Run.load(windows_run).curves.epochs == 3
    assert list(Path.cwd().iterdir()) == []


def test_a_new_run_is_not_written_to_a_folder_of_windows(
    windows_run: Path, tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--config", str(windows_run / "config.yaml"), "--data.root", str(tiny_root)]
    assert main(["fit", *options]) == 2
    assert "--trainer.default_root_dir must be a name that every system accepts" in capsys.readouterr().err
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.slow
def test_a_moved_sweep_finds_its_trials(base: dict[str, object], tmp_path: Path) -> None:
    first = pairs_lit.sweep("fc_aux", build_spec(), base | {"trainer.default_root_dir": tmp_path / "first"})
    moved = tmp_path / "moved" / "lightning_logs" / "sweep"
    shutil.copytree(first.folder, moved)
    journal = (moved / "study.log").read_text(encoding="utf-8")
    assert str(first.folder) in journal
    text = journal.replace(f"{first.folder.absolute()}/", json.dumps("C:\\runs\\sweep\\")[1:-1])
    (moved / "study.log").write_text(text, encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in moved.glob("0*/rounds.csv")}
    second = pairs_lit.sweep("fc_aux", build_spec(), base | {"trainer.default_root_dir": tmp_path / "moved"})
    assert [trial.folder.parent for trial in second.trials] == [moved] * 2
    assert before == {path: path.stat().st_mtime_ns for path in moved.glob("0*/rounds.csv")}
    assert [trial.scores for trial in second.trials] == [trial.scores for trial in first.trials]


# --- open files ---


class OpenFileRule:
    """Windows' rule that a file which is open cannot be replaced, renamed or deleted."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def wrap(self, function: Callable[..., object]) -> Callable[..., object]:
        def call(*paths: object, **options: object) -> object:
            numbers = [options[key] for key in ("dir_fd", "src_dir_fd") if options.get(key) is not None]
            folder = Path(f"/proc/self/fd/{numbers[0]}").readlink() if numbers else Path()
            names = [os.fspath(path) for path in paths if isinstance(path, str | os.PathLike)]
            changed = {str((folder / name).absolute()) for name in names}
            for path in sorted(changed & set(self._list_open_files())):
                self.broken.append(path)
                raise PermissionError(13, "The process cannot access the file", path)
            return function(*paths, **options)

        return call

    @staticmethod
    def _list_open_files() -> Iterator[str]:
        for entry in Path("/proc/self/fd").iterdir():
            if entry.is_symlink():
                yield str(entry.readlink())


@pytest.fixture
def rule(monkeypatch: pytest.MonkeyPatch) -> OpenFileRule:
    if sys.platform != "linux":
        pytest.skip("the list of open files is that of Linux")
    rule = OpenFileRule()
    for name in ("unlink", "remove", "rename", "replace"):
        monkeypatch.setattr(os, name, rule.wrap(getattr(os, name)))
    return rule


def test_the_rule_is_applied(rule: OpenFileRule, tmp_path: Path) -> None:
    with (tmp_path / "a").open("w", encoding="utf-8"), pytest.raises(PermissionError):
        (tmp_path / "a").unlink()
    (tmp_path / "a").unlink()
    assert rule.broken == [str(tmp_path / "a")]


def test_no_command_changes_a_file_that_it_has_open(rule: OpenFileRule, fit: Fit, tmp_path: Path) -> None:
    run = fit(CHECKPOINT, config="fc_aux")
    assert main(["fit", str(run), "--trainer.max_epochs", "3"]) == 0
    for command in ("test", "validate", "predict", "inspect", "inspect"):
        assert main([command, str(run)]) == 0
    for _ in range(2):
        outputs = ["--output", str(tmp_path / "table.txt"), "--figure", str(tmp_path / "rounds.PNG")]
        assert main(["compare", str(run), *outputs]) == 0
    assert rule.broken == []


@pytest.mark.slow
def test_no_sweep_changes_a_file_that_it_has_open(rule: OpenFileRule, base: dict[str, object]) -> None:
    callbacks = [{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"save_top_k": -1}}]
    changes = base | {"trainer.callbacks": callbacks}
    for values in ([0.1], [0.1, 1.0]):
        space = {"model.loss.aux_weight": values}
        result = pairs_lit.sweep("fc_aux", build_spec(space=space, confirm={"count": 2, "seed": 9}), changes)
    assert rule.broken == []
    assert not [path.name for path in result.folder.iterdir() if path.name in (".fits", ".working")]
