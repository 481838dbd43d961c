import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pairs_lit.cli import main
from pairs_lit.runs.run_folder import to_run_name
from tests.conftest import CONFIGS, Fit
from tests.support.runs import COMMAND, read_tables, run_rejected


class TestConfigForms:
    TEXT = (CONFIGS / "fc_aux.yaml").read_text(encoding="utf-8")

    @pytest.mark.parametrize("form", ["yaml", "json"])
    def test_text_in_place_of_a_file(self, form: str, fit: Fit, tiny_options: list[str], tmp_path: Path) -> None:
        text = self.TEXT if form == "yaml" else json.dumps(yaml.safe_load(self.TEXT))
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path)]
        assert main(["fit", "--config", text, *options]) == 0
        (run,) = tmp_path.glob("lightning_logs/run/*")
        assert read_tables(run) == read_tables(fit(config="fc_aux"))

    @pytest.mark.slow
    def test_the_standard_input(self, tiny_options: list[str], tmp_path: Path) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path)]
        command = [*COMMAND, "fit", "--config", "-", *options]
        done = subprocess.run(command, input=self.TEXT.encode(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert list(tmp_path.glob("lightning_logs/run/*/rounds.csv"))

    @pytest.mark.parametrize(
        ("file", "name"),
        [
            ("my config.yaml", "my_config"),
            ("résumé (2).yaml", "resume_2"),
            ("[α=0.5].yaml", "0.5"),
            ("漢字.yaml", "run"),
            ("a_b-c.1.yaml", "a_b-c.1"),
        ],
    )
    @pytest.mark.quick(2)
    def test_any_file_name(self, file: str, name: str, fit: Fit, tmp_path: Path) -> None:
        config = tmp_path / file
        config.write_text(self.TEXT, encoding="utf-8")
        assert fit(config=config).parent.name == name
        assert to_run_name(Path(file).stem) == name

    @pytest.mark.parametrize("text", ["", "just text", "[1, 2]"])
    def test_invalid_config(
        self, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        assert re.search("config", run_rejected(["fit", "--config", "-"], capsys))

    @pytest.mark.parametrize("module", ["pairs_lit", "pairs_lit.cli"])
    def test_python_m(self, module: str) -> None:
        command = [sys.executable, "-m", module]
        version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert version.stdout.startswith("pairs-lit ")
        failed = subprocess.run([*command, "nope"], capture_output=True, text=True, check=False)
        assert (failed.returncode, failed.stderr.count("Traceback")) == (2, 0)
