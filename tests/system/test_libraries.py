import os
import subprocess
import sys
import threading
from pathlib import Path

import matplotlib
import pytest

from pairs_lit.cli import main
from pairs_lit.system.libraries import drop_missing_backend
from tests.conftest import CONFIGS, Fit
from tests.support.runs import build_checkpoint_arguments, read_tables, run_process

PARTS = "tests.support.real_world_parts"


class TestNotebooks:
    @pytest.mark.parametrize("backend", ["module://matplotlib_inline_that_is_missing.backend", "nonsense"])
    @pytest.mark.slow
    def test_missing_backend_is_ignored(
        self, backend: str, fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = fit(config="fc_aux")
        commands = [["compare", str(run), "--figure", str(tmp_path / "figure.png")]]
        commands += [["test", *build_checkpoint_arguments(run)]] if backend.startswith("module") else []
        for command in commands:
            done = run_process(*command, MPLBACKEND=backend)
            assert (done.returncode, done.stderr.count(b"Traceback")) == (0, 0)

    def test_a_backend_that_exists_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for backend in ("agg", "Agg", f"module://{matplotlib.__name__}.backends.backend_svg"):
            monkeypatch.setenv("MPLBACKEND", backend)
            monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
            drop_missing_backend()
            assert os.environ["MPLBACKEND"] == backend

    def test_outside_the_main_thread(self, tiny_options: list[str], tmp_path: Path) -> None:
        codes: list[int] = []
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path)]
        command = ["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options]
        worker = threading.Thread(target=lambda: codes.append(main(command)))
        worker.start()
        worker.join()
        assert codes == [0]

    def test_two_commands_at_once_in_one_process(self, fit: Fit, tiny_options: list[str], tmp_path: Path) -> None:
        alone = read_tables(
            fit("--model.backbone", f"{PARTS}.OneLayer", "--model.backbone.kind", "torch", config="fc_aux")
        )
        options = ["--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, "--model.backbone", f"{PARTS}.OneLayer"]
        options += ["--model.backbone.kind", "torch", "--trainer.default_root_dir"]
        before = threading.excepthook
        workers = [threading.Thread(target=main, args=(["fit", *options, str(tmp_path / name)],)) for name in "abc"]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        runs = list(tmp_path.glob("[abc]/lightning_logs/*/*"))
        assert [read_tables(run) for run in runs] == [alone] * 3
        assert threading.excepthook is before

    def test_without_an_error_stream(
        self, tiny_options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stderr", None)
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path)]
        assert main(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options]) == 0

    @pytest.mark.slow
    def test_a_forked_child_after_a_cnn_was_trained(self, tiny_options: list[str], tmp_path: Path) -> None:
        """The kernels do not use numba's threading layer, so a missing one does not matter."""
        options = ["fit", "--config", str(CONFIGS / "cnn_aux.yaml"), *tiny_options]
        options += ["--trainer.default_root_dir", str(tmp_path)]
        code = (
            "import os, sys; from pairs_lit.cli import main\n"
            f"assert main({options!r}) == 0\n"
            "import torch\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            f"    code = main({options!r})\n"
            "    torch.nn.Conv2d(8, 8, 3)(torch.rand(64, 8, 64, 64)).sum().backward()\n"
            "    os._exit(code)\n"
            "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        )
        around = os.environ | {"NUMBA_THREADING_LAYER": "tbb"}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=120, env=around)
        assert done.returncode == 0, done.stderr
