import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pairs_lit.system.threads import get_requested_threads, use_threads
from tests.conftest import CONFIGS, Fit
from tests.support.runs import run_process, run_rejected


class TestThreads:
    @pytest.fixture(autouse=True)
    def _unasked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)

    @staticmethod
    def get_threads(run: Path) -> int:
        return int(json.loads((run / "summary.json").read_text())["threads"])

    def test_default_is_one_thread(self, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pairs_lit.system.threads._DEFAULT_THREAD_COUNTS", {1, 2})
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            assert self.get_threads(fit(config="cnn_aux")) == 1
            assert torch.get_num_threads() == 2
            torch.set_num_threads(3)
            assert self.get_threads(fit(config="cnn_aux")) == 3
        finally:
            torch.set_num_threads(before)

    def test_requested_number_is_used_and_recorded(self, fit: Fit) -> None:
        before = torch.get_num_threads()
        two = fit("--rounds.threads", "2")
        assert self.get_threads(two) == 2
        assert torch.get_num_threads() == before

    @pytest.mark.parametrize("asked", [None, "3"])
    @pytest.mark.slow
    def test_environment_variable_sets_the_number(
        self, asked: str | None, tiny_options: list[str], tmp_path: Path
    ) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path)]
        config = str(CONFIGS / "cnn_aux.yaml")
        assert run_process("fit", "--config", config, *options, OMP_NUM_THREADS=asked).returncode == 0
        (run,) = tmp_path.glob("lightning_logs/*/*")
        assert self.get_threads(run) == int(asked or 1)

    @pytest.mark.slow
    def test_a_number_set_before_the_first_command(self, tiny_options: list[str], tmp_path: Path) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path)]
        call = (
            "import sys, torch; torch.set_num_threads(3); from pairs_lit.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        command = [sys.executable, "-c", call, "fit", "--config", str(CONFIGS / "fc.yaml"), *options]
        assert subprocess.run(command, capture_output=True, check=False, timeout=300).returncode == 0
        (run,) = tmp_path.glob("lightning_logs/*/*")
        assert self.get_threads(run) == 3

    @pytest.mark.parametrize(("text", "count"), [(" 3", 3), ("3,1", 3), ("", 1), ("0", 1), ("many", 1)])
    def test_formats_of_the_environment_variable(self, text: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        monkeypatch.setattr("pairs_lit.system.threads._DEFAULT_THREAD_COUNTS", {torch.get_num_threads()})
        assert get_requested_threads() == count

    @pytest.mark.parametrize("option", ["--rounds.threads=100000", "OMP_NUM_THREADS=100000"])
    def test_too_many_threads_are_rejected(
        self, option: str, tiny_options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, *([option] if option.startswith("--") else [])]
        if not option.startswith("--"):
            monkeypatch.setenv(*option.split("="))
            monkeypatch.setattr("pairs_lit.system.threads._DEFAULT_THREAD_COUNTS", {torch.get_num_threads()})
        message = run_rejected(["fit", "--config", str(CONFIGS / "fc.yaml"), *options], capsys)
        assert re.search(r"rounds.threads or OMP_NUM_THREADS requests 100000 threads. Use at most", message)

    def test_number_set_inside_the_context_counts_as_requested(self) -> None:
        with use_threads(1):
            torch.set_num_threads(2)
            assert get_requested_threads() == 2

    @pytest.mark.parametrize("asked", ["0", "-2"])
    def test_less_than_one_thread_is_rejected(
        self, asked: str, tiny_options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = ["fit", "--config", str(CONFIGS / "fc.yaml"), *tiny_options, "--rounds.threads", asked]
        assert re.search(f"rounds.threads must be 1 or more, got {asked}", run_rejected(options, capsys))
