"""The repository and its distributions: names for every system, no links, complete wheels."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from pairs_lit.system.file_names import describe_name_problem, group_case_variants
from tests.conftest import ROOT

LINK_MODE = "120000"
BUILD = "import sys; from setuptools import build_meta as backend; print(getattr(backend, sys.argv[1])(sys.argv[2]))"


def run(*command: str, folder: Path = ROOT) -> str:
    """Run a command in a folder and return its output."""
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tracked() -> dict[str, str]:
    """Return the mode of each tracked file by its name."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone of the repository")
    entries = run("git", "ls-files", "-s", "-z").rstrip("\0").split("\0")
    return {name: information.split()[0] for information, name in (entry.split("\t", 1) for entry in entries)}


def test_no_tracked_file_is_a_link(tracked: dict[str, str]) -> None:
    assert [name for name, mode in tracked.items() if mode == LINK_MODE] == []


def test_every_tracked_name_is_valid_on_every_system(tracked: dict[str, str]) -> None:
    parts = {part for name in tracked for part in name.split("/")}
    assert {part: describe_name_problem(part) for part in parts if describe_name_problem(part)} == {}
    assert max(map(len, tracked)) < 120, "a clone in a deep folder must stay below Windows' 260 characters"


def test_no_tracked_names_differ_in_case_only(tracked: dict[str, str]) -> None:
    folders = {str(parent) for name in tracked for parent in Path(name).parents}
    assert group_case_variants([*tracked, *folders]) == []


def test_tracked_text_has_unix_line_ends(tracked: dict[str, str]) -> None:
    lines = run("git", "ls-files", "--eol").splitlines()
    assert [line for line in lines if line.split()[0] in ("i/crlf", "i/mixed")] == []


def build(kind: str, source: Path, target: Path) -> Path:
    """Build a wheel or an sdist with the installed setuptools, which needs no network."""
    target.mkdir()
    name = run(sys.executable, "-c", BUILD, f"build_{kind}", str(target), folder=source).splitlines()[-1]
    return target / name


def list_wheel(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def clone(tracked: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clone the last commit as git does on Windows, where it writes symbolic links as text files."""
    folder = tmp_path_factory.mktemp("clone") / "source"
    run("git", "-c", "core.symlinks=false", "clone", "-q", str(ROOT), str(folder))
    return folder


@pytest.fixture(scope="module")
def wheel(clone: Path) -> Path:
    return build("wheel", clone, clone.parent / "wheel")


@pytest.mark.slow
def test_a_wheel_of_a_clone_without_links_holds_every_bundled_file(clone: Path, wheel: Path) -> None:
    files = {path.relative_to(clone).as_posix(): path for path in (clone / "pairs_lit").rglob("*") if path.is_file()}
    configs = clone / "configs"
    files |= {f"pairs_lit/configs/{path.relative_to(configs).as_posix()}": path for path in configs.rglob("*.yaml")}
    with zipfile.ZipFile(wheel) as archive:
        contents = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    assert contents == {name: path.read_bytes() for name, path in files.items()}
    assert {"pairs_lit/inference/canvas.js", "pairs_lit/configs/reports/claims.yaml"} <= contents.keys()


@pytest.mark.slow
def test_the_sdist_of_a_clone_without_links_builds_the_same_wheel(clone: Path, wheel: Path) -> None:
    sdist = build("sdist", clone, clone.parent / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(clone.parent / "unpacked", filter="data")
    (source,) = (clone.parent / "unpacked").iterdir()
    assert list_wheel(build("wheel", source, clone.parent / "again")) == list_wheel(wheel)
    assert (source / "README.md").is_file()
    assert (source / "LICENSE").is_file()
