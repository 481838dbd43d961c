import os
import re
import site
from pathlib import Path

import pytest
import torch

from pairs_lit.cli import main
from pairs_lit.system.tracebacks import is_user_file
from tests.conftest import CONFIGS, ROOT
from tests.support.runs import run_rejected

PARTS = "tests.support.real_world_parts"


CALLBACKS = "lightning.pytorch.callbacks"


class TestTracebacks:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (f"--trainer.callbacks {PARTS}.Refuses", r"trainer.callbacks: Refuses: ValueError: .* 7, not 3 \(real"),
            (f"--trainer.callbacks {PARTS}.Refuses --trainer.callbacks.count 5", "count must be 7, not 5"),
            (f"--trainer.logger {PARTS}.RefusingLogger", "logger: RefusingLogger: RuntimeError: no server here"),
            ("--trainer.logger lightning.pytorch.loggers.MLFlowLogger", "trainer.logger: .*mlflow"),
            ("--trainer.logger lightning.pytorch.loggers.WandbLogger", "trainer.logger: .*wandb"),
            ("--trainer.logger lightning.pytorch.loggers.CometLogger", "trainer.logger: .*comet"),
            (f"--trainer.callbacks {CALLBACKS}.ModelCheckpoint --trainer.callbacks.save_top_k -3", "callbacks: .*-3"),
            ("--trainer.profiler nonsense", "trainer: .*profiler.*it can only be one of"),
            ("--trainer.plugins lightning.pytorch.plugins.MixedPrecision --trainer.plugins.precision x "
             "--trainer.plugins.device cpu", "trainer.plugins: "),
            ("--trainer.plugins lightning.pytorch.plugins.TorchCheckpointIO", "a checkpoint plugin, got TorchC"),
        ],
    )  # fmt: skip
    @pytest.mark.quick(4)
    def test_error_in_a_constructor_names_the_option(
        self, options: str, message: str, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = ["--trainer.default_root_dir", str(tmp_path)]
        arguments = ["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, *root, *options.split()]
        assert re.search(message, run_rejected(arguments, capsys))
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "options", [f"--trainer.callbacks {PARTS}.Refuses", f"--trainer.callbacks {PARTS}.FailsInTraining"]
    )
    def test_traceback_is_shown_on_request(
        self,
        options: str,
        tiny_options: list[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("PAIRS_LIT_TRACEBACK", "1")
        root = ["--trainer.default_root_dir", str(tmp_path)]
        assert main(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, *root, *options.split()]) in (1, 2)
        assert "tests/support/real_world_parts.py" in capsys.readouterr().err

    def test_a_callback_that_stops_all_rounds(
        self, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path), "--trainer.callbacks"]
        message = run_rejected(
            ["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options, f"{PARTS}.StopsEarly"], capsys
        )
        assert "a callback set trainer.should_stop after epoch 1, which would end all rounds early" in message
        assert not list(tmp_path.rglob("summary.json"))

    def test_connection_error_in_user_code(
        self, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path), "--trainer.callbacks"]
        assert main(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options, f"{PARTS}.LosesItsServer"]) == 1
        assert re.search(r"error: ConnectionError: server gone \(real_world_parts.py:\d+; ", capsys.readouterr().err)

    def test_a_file_that_cannot_be_imported(
        self,
        tiny_options: list[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (tmp_path / "slipped.py").write_text("class Net(:\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        options = [*tiny_options, "--model.backbone", "slipped.Net"]
        message = run_rejected(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options], capsys)
        assert re.search(r"model.backbone: cannot import slipped.Net: SyntaxError: .*\(slipped.py:1\)", message)

    def test_error_in_user_code_during_training(
        self, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path)]
        options += ["--trainer.callbacks", f"{PARTS}.FailsInTraining"]
        assert main(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(r"error: KeyError: 'val_loss' \(real_world_parts.py:\d+; PAIRS_LIT_TRACEBACK=1 shows", line)


@pytest.mark.parametrize(
    ("file", "is_users"),
    [
        (ROOT / "pairs_lit" / "cli.py", False),
        (ROOT / "pairs_lit_nets" / "net.py", True),  # a neighbour whose name begins with the package's
        (Path(os.path.__file__), False),
        (Path(torch.__file__), False),
        (Path(site.getusersitepackages()) / "other" / "code.py", False),
        (Path("my_nets.py"), True),
    ],
)
def test_files_of_the_user_are_those_of_no_package(file: Path, is_users: bool) -> None:
    assert is_user_file(str(file)) == is_users
