"""Helpers that run commands on finished runs and read the resulting files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pairs_lit.cli import main

COMMAND = [sys.executable, "-m", "pairs_lit"]


def read_tables(run: Path) -> list[bytes]:
    return [(run / name).read_bytes() for name in ("rounds.csv", "curves.csv")]


def read_contents(folder: Path) -> dict[Path, bytes]:
    """Return the content of every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def build_checkpoint_arguments(run: Path) -> list[str]:
    return ["--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints" / "last.ckpt")]


def run_predict(run: Path) -> bytes:
    assert main(["predict", *build_checkpoint_arguments(run)]) == 0
    return (run / "predictions.csv").read_bytes()


def run_process(*arguments: str, **environment: str | None) -> "subprocess.CompletedProcess[bytes]":
    """Run a command in a new process; an environment variable of None is removed."""
    variables = {key: value for key, value in (os.environ | environment).items() if value is not None}
    return subprocess.run([*COMMAND, *arguments], capture_output=True, check=False, env=variables, timeout=300)


NOTICES = ("loading PyTorch", "trains as copies in a loop, which is slower")


def run_rejected(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail with a short message and exit code 2; return the message."""
    capsys.readouterr()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if not any(notice in line for notice in NOTICES)]
    assert len(lines) == 1
    assert len(lines[0]) < 400
    return lines[0]
