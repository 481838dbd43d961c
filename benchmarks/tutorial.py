"""Outputs of the tutorial: ``python benchmarks/tutorial.py`` executes ``docs/tutorial.ipynb`` and saves its outputs.

The notebook runs in a new kernel and a temporary folder, and downloads nothing. Progress bars and notices are removed
from the saved outputs, and so are the texts that tables and images have for terminals.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parent.parent / "docs" / "tutorial.ipynb"

_WIDGET = "application/vnd.jupyter.widget-view+json"

Json = dict[str, Any]


def execute_notebook(notebook: Path, folder: Path, *, timeout: float | None = None) -> Json:
    """Execute a copy of a notebook in a folder with ``jupyter nbconvert``, and return it with its outputs.

    Args:
        notebook: The notebook.
        folder: An empty folder, in which the notebook writes its files.
        timeout: The number of seconds after which the execution is given up, or None for no limit.

    Raises:
        CalledProcessError: A cell raised an error, which nbconvert has printed.
        TimeoutExpired: It took too long.
    """
    copy = shutil.copy(notebook, folder)
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute", "--inplace", str(copy)]
    subprocess.run(command, cwd=folder, check=True, timeout=timeout)
    executed: Json = json.loads(Path(copy).read_text(encoding="utf-8"))
    return executed


def clean_notebook(notebook: Json, folder: Path) -> Json:
    """Return an executed notebook without progress bars, notices, times and the path of the folder it ran in."""
    text = json.dumps(notebook, ensure_ascii=False).replace(f"{folder}/", "")
    cleaned: Json = json.loads(text)
    cleaned["metadata"].pop("widgets", None)
    for cell in cleaned["cells"]:
        cell["metadata"] = {}
        if cell["cell_type"] == "code":
            cell["outputs"] = [_drop_plain_text(output) for output in cell["outputs"] if not _is_transient(output)]
    return cleaned


def _is_transient(output: Json) -> bool:
    """Return whether an output is a notice or a progress bar."""
    return output.get("name") == "stderr" or _WIDGET in output.get("data", {})


def _drop_plain_text(output: Json) -> Json:
    """Return the output without its text for terminals if it is a table or an image, too."""
    data = output.get("data", {})
    if len(data) < 2:
        return output
    return output | {"data": {kind: value for kind, value in data.items() if kind != "text/plain"}}


def main() -> None:
    """Execute the notebook and save its outputs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        notebook = clean_notebook(execute_notebook(NOTEBOOK, folder), folder)
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
