"""Shell completion offers the commands, options and choices that the parsers accept."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pairs_lit.cli import main
from pairs_lit.commands import COMMANDS
from pairs_lit.commands.completion import build_completion_script
from pairs_lit.runs.shipped_configs import list_shipped_configs

bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "pairs-lit"
    path.write_text(build_completion_script("bash"))
    return path


def offered(script: Path, *words: str) -> list[str]:
    """Return what bash offers for the last word."""
    typed = " ".join(repr(word) for word in ("pairs-lit", *words))
    code = (
        f"source {script}; COMP_WORDS=({typed}); COMP_CWORD={len(words)}; "
        "$(complete -p pairs-lit | sed 's/.*-F \\([^ ]*\\).*/\\1/'); printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, cwd=script.parent)
    return done.stdout.split()


@bash
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fi"], {"fit"}),
        (["fit", "--model.sharing", ""], {"shared", "separate", "joint"}),
        (["fit", "--data.swap", "re"], {"relabel"}),
        (["fit", "--data.reuse", ""], {"true", "false"}),
        (["test", "--ckpt_p"], {"--ckpt_path"}),
        (["compare", "--format", "la"], {"latex"}),
        (["sweep", "--swe"], {"--sweep"}),
        (["sweep", "--model.loss.aux"], {"--model.loss.aux_weight"}),
        (["completion", "z"], {"zsh"}),
    ],
)
def test_bash_offers(script: Path, words: list[str], expected: set[str]) -> None:
    assert set(offered(script, *words)) == expected


@bash
def test_bash_offers_every_command(script: Path) -> None:
    assert set(COMMANDS) <= set(offered(script, ""))


@bash
def test_bash_offers_shipped_configs_and_files(script: Path) -> None:
    (script.parent / "cnn_of_mine.yaml").touch()
    candidates = set(offered(script, "fit", "--config", "cnn"))
    assert candidates == {name for name in list_shipped_configs() if name.startswith("cnn")} | {"cnn_of_mine.yaml"}


def test_every_shell_gets_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "zsh"]) == 0
    assert capsys.readouterr().out.startswith("#compdef pairs-lit")


def test_unknown_shell_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "cmd"]) == 2
    assert "invalid choice: 'cmd'" in capsys.readouterr().err


def test_a_command_whose_extra_is_missing_is_completed_without_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    for name in [name for name in sys.modules if name.startswith(("pairs_lit.commands.sweep", "pairs_lit.sweeps"))]:
        monkeypatch.delitem(sys.modules, name)
    text = build_completion_script("bash")
    assert "--storage" not in text
    assert "sweep" in text


def test_missing_shtab_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    monkeypatch.delitem(sys.modules, "pairs_lit.commands.completion")
    assert main(["completion", "bash"]) == 2
    assert "pip install 'pairs-lit[completion]'" in capsys.readouterr().err
