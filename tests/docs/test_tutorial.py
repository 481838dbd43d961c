"""The tutorial notebook runs from top to bottom as a user would run it, and is saved with its outputs."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.notebooks import iterate_texts, join_stream, list_displayed
from tutorial import NOTEBOOK, clean_notebook, execute_notebook

CELLS = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
OUTPUTS = [output for cell in CELLS for output in cell["outputs"]]
LONGEST = 180  # seconds on an idle machine


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # no download succeeds
    start = time.monotonic()
    notebook = execute_notebook(NOTEBOOK, tmp_path, timeout=900)
    seconds = time.monotonic() - start
    processes_per_core = max(1, os.getloadavg()[1] / (os.cpu_count() or 1))
    assert seconds < LONGEST * processes_per_core
    outputs = [output for cell in clean_notebook(notebook, tmp_path)["cells"] for output in cell.get("outputs", [])]
    assert [sorted(data) for data in list_displayed(outputs)] == [sorted(data) for data in list_displayed(OUTPUTS)]
    assert not join_stream(outputs, "stderr")
    assert len(list(tmp_path.glob("lightning_logs/*/*/rounds.csv"))) >= 5


def test_the_notebook_is_saved_with_its_plots_and_tables() -> None:
    kinds = [kind for data in list_displayed(OUTPUTS) for kind in data]
    assert kinds.count("image/png") >= 4
    assert kinds.count("text/html") >= 5
    assert any("paired by seed" in text for text in iterate_texts(OUTPUTS))
    assert NOTEBOOK.stat().st_size < 1_000_000


def test_the_saved_outputs_have_no_errors_notices_or_paths_of_a_machine() -> None:
    assert not [output for output in OUTPUTS if output["output_type"] == "error" or output.get("name") == "stderr"]
    paths = re.compile(r"(?<![\w.<])(/(home|root|tmp|Users|private|var|work|mnt|usr|opt)/|[A-Z]:\\)")
    assert not [text for text in iterate_texts(OUTPUTS) if paths.search(text)]


def test_the_first_cell_installs_the_package_only_where_it_is_missing(tmp_path: Path) -> None:
    script = tmp_path / "first_cell.py"
    script.write_text(
        f"""
import sys
from IPython.core.interactiveshell import InteractiveShell

shell, installed = InteractiveShell(), []

def install(arguments):
    installed.append(arguments)
    del sys.modules["pairs_lit"]

shell.register_magic_function(install, magic_name="pip")
cell = {"".join(CELLS[0]["source"])!r}
for present in (True, False):
    if not present:
        sys.modules["pairs_lit"] = None  # an import raises ModuleNotFoundError
    shell.run_cell(cell, silent=True).raise_error()
    print(installed)
"""
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.splitlines() == ["[]", "['install --quiet \"..[sweep]\"']"], done.stderr
