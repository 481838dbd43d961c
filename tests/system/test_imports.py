"""Garbage collection during the imports of a command, in processes that have not loaded torch yet."""

import gc
import subprocess
import sys

import pytest

from pairs_lit.system.imports import load_libraries, pause_garbage_collection

COUNT = """
import gc, sys
full, frozen = [], gc.get_freeze_count()  # Python 3.12 itself exempts some objects
gc.callbacks.append(lambda phase, info: full.append(info) if info["generation"] == 2 else None)
"""


def run(code: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pause_garbage_collection()
def fail() -> None:
    raise ImportError("paused" if not gc.isenabled() else "running")


def test_collection_is_paused_and_resumed_even_after_an_error() -> None:
    with pytest.raises(ImportError, match="paused"):
        fail()
    assert gc.isenabled()


def test_collection_that_the_user_has_switched_off_stays_off() -> None:
    gc.disable()
    try:
        with pause_garbage_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_nothing_is_exempted_in_a_process_that_has_torch() -> None:
    before = gc.get_freeze_count()
    with load_libraries():
        assert not gc.isenabled()
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, before)


def test_nothing_is_exempted_without_torch() -> None:
    code = COUNT + "from pairs_lit.system.imports import load_libraries\nwith load_libraries(): import json\n"
    assert run(code + "print(gc.get_freeze_count() - frozen)") == ["0"]


def test_a_command_loads_torch_without_full_collections_and_exempts_its_objects() -> None:
    code = COUNT + "from pairs_lit.cli import main; assert main(['test', 'missing']) == 2\n"
    assert run(code + "print(len(full), gc.isenabled(), gc.get_freeze_count() - frozen > 100_000)") == [
        "0",
        "True",
        "True",
    ]


def test_the_python_interface_loads_torch_without_full_collections_and_exempts_nothing() -> None:
    code = COUNT + "import pairs_lit; pairs_lit.PairModule; assert 'torch' in sys.modules\n"
    assert run(code + "print(len(full), gc.isenabled(), gc.get_freeze_count() - frozen)") == ["0", "True", "0"]
