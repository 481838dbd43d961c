"""Progress bars: where they are shown, and which kind."""

import io
import sys
from importlib.machinery import ModuleSpec
from types import SimpleNamespace
from typing import Any

import pytest
from tqdm import tqdm

from pairs_lit.system.notebook import is_in_notebook
from pairs_lit.training import progress
from pairs_lit.training.progress import EpochCounter, can_show_bar, choose_bar_class


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shells = SimpleNamespace(ZMQInteractiveShell=SimpleNamespace(initialized=lambda: True))
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", shells)


def test_a_script_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel.zmqshell", raising=False)
    assert not is_in_notebook()


@pytest.mark.usefixtures("notebook")
def test_a_kernel_is_a_notebook() -> None:
    assert is_in_notebook()


@pytest.mark.parametrize(("stream", "is_shown"), [(Terminal(), True), (io.StringIO(), False), (None, False)])
def test_a_bar_needs_a_terminal(stream: object, is_shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    assert can_show_bar() is is_shown


@pytest.mark.usefixtures("notebook")
def test_a_notebook_needs_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert can_show_bar()


def test_a_terminal_has_a_text_bar() -> None:
    assert choose_bar_class() is tqdm


@pytest.mark.usefixtures("notebook")
@pytest.mark.parametrize("is_installed", [True, False])
def test_a_notebook_has_a_widget_if_ipywidgets_is_installed(
    is_installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tqdm.notebook import tqdm as widget

    monkeypatch.setattr(progress, "find_spec", lambda name: ModuleSpec(name, None) if is_installed else None)
    assert choose_bar_class() is (widget if is_installed else tqdm)


@pytest.mark.parametrize(("is_first", "epochs"), [(True, 3 * 4 + 3), (False, 0)])
def test_only_rank_0_advances_the_common_bar(is_first: bool, epochs: int) -> None:
    trainer: Any = SimpleNamespace(is_global_zero=is_first, current_epoch=4)
    with tqdm(total=30, file=io.StringIO()) as bar:
        counter = EpochCounter(bar, rounds=3)
        counter.on_train_start(trainer, SimpleNamespace())  # type: ignore[arg-type] # the module is not used
        counter.on_train_epoch_end(trainer, SimpleNamespace())  # type: ignore[arg-type] # the module is not used
        assert bar.n == epochs
