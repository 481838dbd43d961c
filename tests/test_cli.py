import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pairs_lit import __version__
from pairs_lit.cli import COMMANDS, main
from pairs_lit.errors import Stopped
from pairs_lit.system.signals import defer_signals, handle_signals, raise_if_stopped
from tests.conftest import CONFIGS

COMMAND = [sys.executable, "-c", "import sys; from pairs_lit.cli import main; sys.exit(main())"]


def test_help_lists_all_commands_in_under_half_a_second() -> None:
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert min(seconds) < 0.5


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_goes_to_the_output_stream(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert "usage: pairs-lit COMMAND" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pairs-lit {__version__}\n"


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("sweep", ["--config", "--sweep", "--name", "--storage", "fresh seeds", "Any option of pairs-lit fit"]),
        ("inspect", ["RUN/inspect/report.md", "--pairs", "TensorBoard", "test pairs of the first seed"]),
        ("compare", ["--metric", "--format", "--statistics", "--figure", "--allow-different", "paired by seed"]),
        ("configs", ["--config takes", "in the current folder"]),
        ("apply", ["--pairs", "--as-is", "--format", "--show", "training images"]),
        ("demo", ["--port", "--no-browser", "127.0.0.1"]),
        ("export", ["--to", "safetensors", "--seed", "--output", "--overwrite"]),
        ("completion", ["bash", "zsh", "$fpath"]),
        ("reproduce", ["--rounds", "--seed", "--data.root", "--data.allow_unverified", "--no-training", "hakobyan"]),
    ],
)
def test_the_help_of_commands_without_sections_explains_their_options(
    command: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(option in text for option in options)


def test_second_signal_stops_at_once() -> None:
    with handle_signals():
        with defer_signals():
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(Stopped, match="SIGTERM"):
                signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped, match="SIGTERM"):
            raise_if_stopped()


def test_a_signal_waits_for_the_end_of_a_step() -> None:
    with handle_signals(), defer_signals():
        raise_if_stopped()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Stopped, match="SIGINT"):
            raise_if_stopped()
    with handle_signals():
        raise_if_stopped()


def test_every_command_is_tested_for_its_help() -> None:
    without_sections = {"sweep", "apply", "demo", "inspect", "export", "compare", "configs", "completion", "reproduce"}
    assert set(COMMANDS) == {"fit", "validate", "test", "predict"} | without_sections


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["loading", "training"])
@pytest.mark.quick(1)
def test_a_signal_ends_in_one_line(
    number: signal.Signals, moment: str, tiny_options: list[str], tmp_path: Path
) -> None:
    root = ["--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "100000"]
    arguments = [*COMMAND, "fit", "--config", str(CONFIGS / "fc.yaml"), *tiny_options, *root]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "loading PyTorch" in process.stderr.readline()
    if moment == "training":
        _wait_until(lambda: any(tmp_path.glob("lightning_logs/*/*/events*")))
        time.sleep(0.5)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert out == ""
    assert err.splitlines() == [
        f"pairs-lit: stopped by {number.name}. Progress was saved; resume with pairs-lit fit RUN."
    ]


def _wait_until(condition: object) -> None:
    assert callable(condition)
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("the condition was not met within a minute")


def test_a_real_process_is_quiet_and_exits_with_0(tiny_options: list[str], tmp_path: Path) -> None:
    options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    arguments = [*COMMAND, "fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0
    assert done.stderr.splitlines() == ["pairs-lit: loading PyTorch and Lightning …"]
    assert "test accuracy" in done.stdout


@pytest.mark.slow
def test_user_class_in_the_current_folder_is_found(tiny_options: list[str], tmp_path: Path) -> None:
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n\n"
        "class Mine(nn.Sequential):\n"
        "    def __init__(self, shape: tuple[int, int, int], width: int = 10) -> None:\n"
        "        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], width))\n"
    )
    script = Path(sys.executable).parent / "pairs-lit"
    arguments = [str(script), "fit", "--config", str(CONFIGS / "fc.yaml"), *tiny_options]
    arguments += ["--model.backbone", "my_nets.Mine", "--model.backbone.width", "10"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("error")) == (0, 0)
    assert list(tmp_path.glob("lightning_logs/fc-Mine/*/rounds.csv"))
