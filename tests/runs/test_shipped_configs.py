"""Bundled configs: they are installed with the package, and found by name from any folder."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from pairs_lit.cli import main
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.shipped_configs import CONFIGS_FOLDER, find_config, list_shipped_configs
from tests.conftest import CONFIGS
from tests.support.shipped import PARAMETERS

ROOT = Path(__file__).parents[2]
Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder, and return it."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_the_distribution_lists_every_folder() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = [path.parent.relative_to(ROOT) for path in (ROOT / "pairs_lit").rglob("__init__.py")]
    assert sorted(listed) == sorted([*(".".join(folder.parts) for folder in folders), "pairs_lit.configs"])


@pytest.mark.parametrize("name", ["cnn", "cnn_aux", "fc", "fc_aux"])
def test_the_main_configs_are_belhadjs(name: str) -> None:
    texts = [(CONFIGS / folder / f"{name}.yaml").read_bytes() for folder in (".", "reports/belhadj")]
    assert texts[0] == texts[1]


def test_the_packages_configs_are_those_at_the_top() -> None:
    assert CONFIGS_FOLDER.resolve() == CONFIGS.resolve()
    assert set(list_shipped_configs()) == set(PARAMETERS)


@pytest.mark.parametrize("name", ["cnn_aux", "further/code", "reports/grall/b_classes_ce"])
@pytest.mark.parametrize("ending", ["", ".yaml"])
def test_a_name_is_found_from_any_folder(name: str, ending: str, elsewhere: Path) -> None:
    assert find_config(f"{name}{ending}") == str(CONFIGS_FOLDER / f"{name}.yaml")


def test_a_name_may_contain_backslashes(elsewhere: Path) -> None:
    assert find_config("reports\\grall\\b_classes_ce") == find_config("reports/grall/b_classes_ce")


@pytest.mark.skipif(sys.platform == "win32", reason="the test would write to these absolute paths there")
@pytest.mark.parametrize("given", ["C:\\configs\\net", "c:/configs/net", "\\\\server\\configs\\net"])
def test_a_path_with_a_drive_is_a_path(given: str, elsewhere: Path) -> None:
    with pytest.raises(PairsLitError, match=r"--config .*net: there is no file .*net or .*net\.yaml in"):
        find_config(given)
    (elsewhere / f"{given}.yaml").parent.mkdir(parents=True, exist_ok=True)
    (elsewhere / f"{given}.yaml").write_text("rounds: {count: 2}\n")
    if not given.startswith("\\"):  # on Linux, these are relative paths
        assert find_config(given) == f"{given}.yaml"


@pytest.mark.parametrize("own", ["cnn_aux", "cnn_aux.yaml"])
def test_a_user_file_takes_precedence(own: str, elsewhere: Path) -> None:
    (elsewhere / own).write_text("rounds: {count: 2}\n")
    assert find_config("cnn_aux") == own


def test_a_folder_of_that_name_is_ignored(elsewhere: Path) -> None:
    (elsewhere / "cnn_aux").mkdir()
    assert find_config("cnn_aux") == str(list_shipped_configs()["cnn_aux"])


def test_a_file_in_the_home_folder_takes_precedence(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(elsewhere))
    (elsewhere / "mine.yaml").write_text("rounds: {count: 2}\n")
    assert find_config("~/mine") == "~/mine.yaml"


@pytest.mark.parametrize("text", ["", "-", "rounds: {count: 2}", "{}", "rounds:\n  count: 2", "[1, 2]"])
def test_other_texts_are_returned_unchanged(text: str, elsewhere: Path) -> None:
    assert find_config(text) == text


def test_an_invalid_path_is_left_to_the_parser(elsewhere: Path) -> None:
    assert find_config("a" * 5000) == "a" * 5000


@pytest.mark.parametrize(
    "name", ["cnn_auxx", "../cnn_aux", "reports/published", "reports/claims.yaml", "reports/grall"]
)
def test_an_unknown_name_is_rejected(name: str, elsewhere: Path) -> None:
    message = (
        rf"--config {name}: there is no file {name}.* in {elsewhere}, and no bundled .*list them with pairs-lit configs"
    )
    with pytest.raises(PairsLitError, match=message):
        find_config(name)


@pytest.mark.parametrize("given", [["--config", "nope"], ["--config=nope"], ["-c", "nope"]])
def test_an_unknown_name_is_rejected_in_one_line(
    given: list[str], elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *given]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert f"--config nope: there is no file nope or nope.yaml in {elsewhere}, and no bundled config" in line


@pytest.mark.parametrize("given", [["--config", "fc_aux"], ["--config=fc_aux.yaml"], ["-c", "reports/belhadj/fc_aux"]])
def test_a_run_of_a_shipped_config_has_its_name(given: list[str], tiny_options: list[str], elsewhere: Path) -> None:
    assert main(["fit", *given, *tiny_options]) == 0
    assert [path.parent.parent.name for path in elsewhere.glob("lightning_logs/*/*/rounds.csv")] == ["fc_aux"]


def test_a_later_config_adds_to_a_shipped_one(tiny_options: list[str], elsewhere: Path) -> None:
    (elsewhere / "mine.yaml").write_text("model: {backbone: {class_path: pairs_lit.nn.backbones.FC}}\n")
    assert main(["fit", "--config", "cnn_aux", "--config", "mine", *tiny_options]) == 0
    (run,) = elsewhere.glob("lightning_logs/mine/*")
    assert "pairs_lit.nn.backbones.FC" in (run / "config.yaml").read_text()


def test_configs_lists_each_with_a_description(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(lines) == sorted(PARAMETERS)
    assert lines["cnn_aux"] == "belhadj CNN_aux: convolutional, auxiliary loss; 1,781 parameters"
    for name, parameters in PARAMETERS.items():
        assert (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").startswith(f"# {lines[name]}\n")
        assert f"{parameters:,} parameters" in (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")


def test_configs_takes_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs", "cnn"]) == 2
    assert "unrecognized arguments: cnn (pairs-lit configs --help lists the options)" in capsys.readouterr().err


def test_reproduce_finds_the_shipped_configs(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "hakobyan", "--no-training"]) == 2
    assert "no fit of hakobyan is finished. Leave out --no-training" in capsys.readouterr().err
    assert list(elsewhere.iterdir()) == []


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which only a built wheel is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", symlinks=True, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = ["wheel", "-q", "--no-deps", "--wheel-dir", str(folder), str(folder / "source")]
    subprocess.run([*pip, *built], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", str(folder / "target"), str(wheel)], check=True)
    return folder / "target"


@pytest.fixture
def call(installed: Path, elsewhere: Path) -> Call:
    """Run the installed ``pairs-lit`` in an empty folder."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pairs_lit", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=elsewhere, env=environment)

    return run


@pytest.mark.slow
class TestWheel:
    def test_it_holds_real_files(self, installed: Path) -> None:
        configs = installed / "pairs_lit" / "configs"
        assert not configs.is_symlink()
        files_by_name = {path.relative_to(configs).as_posix(): path for path in configs.rglob("*.yaml")}
        assert files_by_name.keys() == {path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml")}
        assert not any(path.is_symlink() for path in files_by_name.values())
        assert all(path.read_bytes() == (CONFIGS / name).read_bytes() for name, path in files_by_name.items())
        assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"bin", "pairs_lit"}

    def test_configs(self, call: Call) -> None:
        done = call("configs")
        assert (done.returncode, done.stderr) == (0, "")
        assert [line.split()[0] for line in done.stdout.splitlines()] == sorted(PARAMETERS)

    @pytest.mark.parametrize("name", ["cnn_aux", "reports/grall/b_classes_ce"])
    def test_fit(self, name: str, call: Call, elsewhere: Path) -> None:
        tiny = ["--data.source", "digits", "--rounds.count", "2", "--trainer.max_epochs", "1"]
        done = call("fit", "--config", name, *tiny)
        assert done.returncode == 0, done.stderr
        assert len(list(elsewhere.glob(f"lightning_logs/{Path(name).name}/*/rounds.csv"))) == 1

    def test_reproduce(self, call: Call, elsewhere: Path) -> None:
        done = call("reproduce", "hakobyan", "--no-training")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "pairs-lit: error: no fit of hakobyan is finished. Leave out --no-training to train it.\n"
        assert list(elsewhere.iterdir()) == []
