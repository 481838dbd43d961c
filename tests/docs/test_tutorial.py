"""The tutorial notebook runs from top to bottom."""

import os
import re
import resource
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"


@pytest.mark.slow
# warnings of jupyter_client about its event loop
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_notebook_runs(tmp_path: Path) -> None:
    """Run the notebook: two minutes on two cores, or an eighth of the epochs without PAIRS_LIT_LONG."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if "PAIRS_LIT_LONG" not in os.environ:
        for cell in notebook.cells:
            cell.source = re.sub(
                r'(?<="trainer.max_epochs": )\d+', lambda epochs: str(int(epochs[0]) // 8), cell.source
            )
    before = _get_child_seconds()  # time used by earlier tests in this process
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert _get_child_seconds() - before < 240  # time of the kernel and its workers
    printed = [output.text for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output]
    assert any("paired by seed" in text for text in printed)
    assert len(list(tmp_path.glob("lightning_logs/*/*/rounds.csv"))) >= 5


def _get_child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_notebook_is_saved_with_outputs_and_without_errors() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert len(outputs) >= 6
    assert not [output for output in outputs if output.output_type == "error"]
