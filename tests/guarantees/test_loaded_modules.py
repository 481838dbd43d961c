"""The large libraries that each command may load: each of them takes a tenth of a second or more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pairs_lit.runs.tables import RoundResult, write_rounds

ANY = {"numpy", "scipy", "yaml", "PIL"}
TORCH = {"torch", "lightning", "torchmetrics", "torchvision", "numba"}
STATISTICS = {"scipy.stats", "matplotlib", "pandas", "sklearn"}
EXTRAS = {"optuna", "gradio", "onnx", "onnxruntime", "onnxscript", "safetensors", "shtab", "IPython"}
AFTER_FIT = {
    "pairs_lit.analysis.comparison",
    "pairs_lit.reproduction",
    "pairs_lit.sweeps",
    "numba",
    "sklearn",
    "pandas",
}

CODE = """
import contextlib, io, sys
from pairs_lit.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    assert main({arguments}) == 0
print(*sorted({modules} & set(sys.modules)))
"""


def find_loaded(arguments: list[str], modules: set[str]) -> list[str]:
    """Return which of the modules a command loads in a new process."""
    code = CODE.format(arguments=arguments, modules=modules)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("command", ["--help", "--version", "configs", "fit --help", "test --help", "predict --help"])
def test_help_and_lists_load_no_library(command: str) -> None:
    assert find_loaded(command.split(), ANY | TORCH | STATISTICS | EXTRAS) == []


@pytest.mark.parametrize("command", ["apply", "compare", "demo", "reproduce"])
def test_the_help_of_commands_that_read_runs_loads_no_torch(command: str) -> None:
    assert find_loaded([command, "--help"], TORCH | STATISTICS | EXTRAS) == []


@pytest.mark.parametrize("rounds", [2, 20])
@pytest.mark.parametrize("seed", [0, 1000])
def test_compare_loads_neither_torch_nor_statistics(rounds: int, seed: int, tmp_path: Path) -> None:
    folders = [tmp_path / "one" / "1", tmp_path / "other" / "1"]
    for folder, first in zip(folders, (0, seed), strict=True):  # paired, and unpaired
        results = [
            RoundResult(first + i, "ok", 0.9, None, 0.8 + i / 100, None, 0.7, None, 0.8, 2) for i in range(rounds)
        ]
        write_rounds(folder / "rounds.csv", results)
        (folder / "summary.json").write_text(json.dumps({"data": {"source": "mnist", "relation": "le"}}))
    assert find_loaded(["compare", *map(str, folders)], TORCH | STATISTICS | EXTRAS) == []


@pytest.mark.parametrize("command", ["fit", "inspect", "export"])
def test_commands_that_load_torch_load_nothing_that_they_need_later(command: str) -> None:
    modules = EXTRAS | AFTER_FIT - ({"pairs_lit.analysis.comparison"} if command == "inspect" else set())
    code = f"import sys, pairs_lit.commands.{command}; print(*sorted({modules} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
