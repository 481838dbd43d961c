import re
import shutil
from pathlib import Path

import pytest
import yaml

from pairs_lit.cli import main
from pairs_lit.errors import PairsLitError
from pairs_lit.system import paths
from pairs_lit.system.paths import (
    expand_patterns,
    expand_user_path,
    has_home_prefix,
    is_windows_path,
    parse_stored_path,
)
from tests.conftest import CONFIGS, Fit
from tests.support.runs import run_rejected


class TestHome:
    @pytest.fixture
    def home(self, tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        home = tmp_path / "home"
        (home / "mnist").parent.mkdir()
        shutil.copytree(tiny_root, home / "mnist")
        monkeypatch.setenv("HOME", str(home))
        here = tmp_path / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        return home

    def test_tilde_works_in_every_path(
        self, home: Path, tiny_options: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (home / "data.yaml").write_text(
            yaml.safe_dump({"root": "~/mnist", "source": "mnist", "allow_unverified": True})
        )
        (home / "my.yaml").write_text((CONFIGS / "fc_aux.yaml").read_text())
        logger = ["--trainer.logger", "lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir", "~/csv"]
        fit_arguments = [
            "--config=~/my.yaml",
            *tiny_options,
            "--data",
            "~/data.yaml",
            "--trainer.default_root_dir",
            "~/runs",
        ]
        assert main(["fit", *fit_arguments, *logger]) == 0
        (run,) = home.glob("runs/lightning_logs/my/*")
        assert (home / "csv").is_dir()
        run_path = f"~/{run.relative_to(home)}"
        options = ["--config", f"{run_path}/config.yaml", "--ckpt_path", f"{run_path}/checkpoints/last.ckpt"]
        assert main(["test", *options]) == 0
        assert main(["compare", run_path, "--figure", "~/figure.png", "--output", "~/table.txt"]) == 0
        assert (home / "figure.png").is_file()
        monkeypatch.setenv("PAIRS_LIT_DATA", "~/mnist")
        arguments = ["fit", "--config", "~/my.yaml", *tiny_options, "--trainer.default_root_dir", "~/runs"]
        del arguments[arguments.index("--data.root") : arguments.index("--data.root") + 2]
        assert main(arguments) == 0
        assert list(Path.cwd().iterdir()) == []

    def test_bare_tilde_after_an_equals_sign(self, home: Path, tiny_options: list[str]) -> None:
        """Shells do not expand it there, and YAML reads it as null."""
        arguments = ["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, "--trainer.default_root_dir=~"]
        assert main(arguments) == 0
        assert list(home.glob("lightning_logs/fc_aux/*/rounds.csv"))

    def test_unknown_home_in_an_option(
        self, home: Path, tiny_options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", "~nobody_of_that_name/runs"]
        message = run_rejected(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options], capsys)
        assert "~nobody_of_that_name/runs: there is no such home folder" in message
        assert list(Path.cwd().iterdir()) == []

    def test_unknown_home_in_an_argument(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        message = run_rejected(["compare", "~nobody_of_that_name/run"], capsys)
        assert re.search("~nobody_of_that_name/run: there is no such home folder", message)

    def test_backslashes_after_a_tilde(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert not has_home_prefix("~\\runs")
        assert expand_user_path("~\\runs") == Path("~\\runs")
        monkeypatch.setattr(paths, "IS_WINDOWS", True)
        assert has_home_prefix("~\\runs")
        assert expand_user_path("~\\my\\runs") == home / "my" / "runs"
        assert not has_home_prefix("~$table.csv")


class TestPatterns:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("b", "a", ".hidden", "c[1]"):
            (tmp_path / "runs" / name).mkdir(parents=True)

    def test_a_pattern_is_replaced_by_what_matches(self) -> None:
        assert expand_patterns(["runs/b", "runs/[ab]"]) == ["runs/b", "runs/a", "runs/b"]
        assert expand_patterns(["runs/*"]) == ["runs/a", "runs/b", "runs/c[1]"]

    def test_other_texts_are_kept(self) -> None:
        assert expand_patterns(["./runs/../x.png", "", "runs/c[1]"]) == ["./runs/../x.png", "", "runs/c[1]"]

    def test_a_pattern_below_the_home_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        assert expand_patterns(["~/runs/?"]) == [str(tmp_path / "runs" / name) for name in "ab"]

    def test_a_pattern_without_matches_is_rejected(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(PairsLitError, match=r"runs/x\*: no file or folder matches this pattern\. Check the path\."):
            expand_patterns(["runs/x*"])
        assert "runs/x*: no file or folder matches" in run_rejected(["compare", "runs/x*"], capsys)
        assert "*.png: no file or folder matches" in run_rejected(["apply", "runs/a", "*.png"], capsys)

    def test_compare_takes_a_pattern(self, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        first, second = fit(config="fc_aux"), fit("--rounds.seed", "7", config="fc_aux")
        assert main(["compare", str(first.parent / "*")]) == 0
        output = capsys.readouterr().out
        assert first.name in output
        assert second.name in output


@pytest.mark.parametrize(
    ("text", "is_windows", "parts"),
    [
        ("C:\\runs\\fc", True, ("C:\\", "runs", "fc")),
        ("d:/runs/fc", True, ("d:", "runs", "fc")),
        ("\\\\server\\share\\fc", True, ("\\\\server\\share\\", "fc")),
        ("runs\\fc", False, ("runs", "fc")),
        ("/home/me/fc", False, ("/", "home", "me", "fc")),
        ("a:b", False, ("a:b",)),
    ],
)
def test_paths_of_other_systems(text: str, is_windows: bool, parts: tuple[str, ...]) -> None:
    assert is_windows_path(text) == is_windows
    assert parse_stored_path(text).parts == parts
