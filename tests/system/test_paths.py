import re
import shutil
from pathlib import Path

import pytest
import yaml

from pairs_lit.cli import main
from tests.conftest import CONFIGS
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
