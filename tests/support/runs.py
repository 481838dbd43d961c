"""Commands run on finished runs, and what they leave."""

import os
import subprocess
import sys
from pathlib import Path

from pairs_lit.cli import main

COMMAND = [sys.executable, "-m", "pairs_lit"]


def tables(run: Path) -> list[bytes]:
    return [(run / name).read_bytes() for name in ("rounds.csv", "curves.csv")]


def last(run: Path) -> list[str]:
    return ["--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints" / "last.ckpt")]


def predictions(run: Path) -> bytes:
    assert main(["predict", *last(run)]) == 0
    return (run / "predictions.csv").read_bytes()


def process(*arguments: str, **environment: str | None) -> "subprocess.CompletedProcess[bytes]":
    """Run a command as a process of its own; None takes a variable away."""
    around = {key: value for key, value in (os.environ | environment).items() if value is not None}
    return subprocess.run([*COMMAND, *arguments], capture_output=True, check=False, env=around, timeout=300)
