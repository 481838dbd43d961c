import subprocess
from pathlib import Path

import pytest

from pairs_lit.runs.commit import get_commit


def git(folder: Path, *arguments: str) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(
        ["git", "-C", str(folder), *names, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a committed package in a new repository."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return folder


def test_the_commit_is_that_of_the_packages_files(package: Path) -> None:
    revision = get_commit(package)
    assert revision is not None
    assert git(package, "rev-parse", "HEAD").startswith(revision)


def test_changed_files_and_configs_are_marked(package: Path) -> None:
    clean = get_commit(package)
    (package / "__init__.py").write_text("1")
    assert get_commit(package) == f"{clean}+changes"


def test_untracked_files_have_no_commit(package: Path, tmp_path: Path) -> None:
    other = package.parent / "site-packages" / "pairs_lit"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("")
    assert get_commit(other) is None


def test_without_git_there_is_no_commit(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert get_commit(package) is None
