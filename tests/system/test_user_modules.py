"""Import paths of modules, their attributes and methods of classes, and errors of paths that cannot be imported."""

import json
from datetime import date
from pathlib import Path

import pytest

from pairs_lit.system.user_modules import import_path


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("json", json),
        ("json.loads", json.loads),
        ("json.decoder", json.decoder),
        ("datetime.date.today", date.today),
    ],
)
def test_import_path_finds_modules_names_and_methods(path: str, found: object) -> None:
    assert import_path(path) == found


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("nowhere", ImportError, "No module named 'nowhere'"),
        ("nowhere.deep.Net", ImportError, "No module named 'nowhere'"),
        ("json.Nope", AttributeError, "module 'json' has no attribute 'Nope'"),
        ("json.nope.Net", AttributeError, "module 'json' has no attribute 'nope'"),
    ],
)
def test_error_names_the_missing_module_or_attribute(path: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        import_path(path)


def test_error_names_the_missing_dependency_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "nets.py").write_text("import not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'not_installed'"):
        import_path("own_package.nets.Net")
