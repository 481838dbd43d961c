import csv
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pairs_lit import __version__
from pairs_lit.cli import COMMANDS
from pairs_lit.nn.architecture import get_embedding_width
from pairs_lit.runs.tables import RoundResult
from pairs_lit.stacking.stack import stack
from pairs_lit.stacking.stacked_network import StackedNetwork

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
USE = (DOCS / "usage.md").read_text(encoding="utf-8")
# warnings of a plain Trainer; the command line silences them
LIGHTNINGS_OWN = [
    "ignore:.*does not have many workers:UserWarning",
    "ignore:The number of training batches:UserWarning",
]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run_example(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run an example as a reader would, in a folder with ``configs``."""
    (folder / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(folder)
    exec(compile(code, "example", "exec"), {})


@pytest.mark.filterwarnings(*LIGHTNINGS_OWN)
def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = [code for code in blocks(README, "python") if "pairs_lit.fit" in code]
    run_example(example, tmp_path, monkeypatch)
    assert 0 < float(capsys.readouterr().out.splitlines()[-1]) < 1
    assert list(tmp_path.rglob("rounds.csv"))


def networks_of(text: str, name: str) -> Any:  # noqa: ANN401 - any class
    (example,) = [code for code in blocks(text, "python") if f"class {name}" in code]
    names: dict[str, Any] = {}
    exec(compile(example, "my_nets.py", "exec"), names)
    return names[name]


def test_backbone_example_can_be_stacked() -> None:
    network = networks_of(README, "Small")
    assert get_embedding_width(network(width=32), (1, 14, 14)) == 10
    assert isinstance(stack(network, [0, 1], [1, 14, 14]), StackedNetwork)


def test_pair_network_example_can_be_stacked() -> None:
    stacked = stack(networks_of((DOCS / "custom-network.md").read_text("utf-8"), "Siamese"), [0, 1], [2, 14, 14])
    assert isinstance(stacked, StackedNetwork)
    assert [part.shape for part in stacked(torch.rand(2, 5, 2, 14, 14))] == [(2, 5, 1), (2, 5, 2, 10)]


def test_readme_has_the_install_and_test_commands() -> None:
    assert "pip install .\npairs-lit fit --config configs/cnn_aux.yaml\n" in README
    assert 'pip install -e ".[dev]" && pytest\n' in README


def test_every_file_mentioned_in_the_readme_exists() -> None:
    files = set(re.findall(r"(?:configs|docs)/[\w/]+\.\w+", README)) | set(re.findall(r"\]\(([^)]+)\)", README))
    assert {"configs/cnn_aux.yaml", "docs/results/belhadj_epochs.png", "CHANGELOG.md"} <= files
    assert [name for name in files if not (ROOT / name.partition("#")[0]).is_file()] == []
    anchors = {tuple(name.split("#")) for name in files if "#" in name}
    assert [anchor for page, anchor in anchors if anchor not in headings(ROOT / page)] == []


def headings(page: Path) -> list[str]:
    """Return the headings of a page in the form used in links."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines]


@pytest.mark.parametrize("page", [path.name for path in DOCS.glob("*.md")])
def test_every_file_mentioned_on_a_page_exists(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https://)([^)]+)\)", text)
    assert [name for name in links if not (DOCS / name.partition("#")[0]).is_file()] == []
    inside = re.findall(r"(?:configs|docs|tests|benchmarks)/[\w/]+\.\w+", text)
    assert [name for name in inside if not (ROOT / name).is_file()] == []


def test_every_page_is_in_the_table_of_contents() -> None:
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")} - {"index"}
    trees = re.findall(r"```{toctree}\n(.*?)```", (DOCS / "index.md").read_text("utf-8"), re.DOTALL)
    entries = {re.sub(r".*<(.*)>", r"\1", line) for tree in trees for line in tree.splitlines()}
    assert pages - entries == set()


def test_every_command_is_documented() -> None:
    assert all(f"`{name}`" in USE for name in COMMANDS)


def test_every_column_of_rounds_csv_is_documented() -> None:
    text = (DOCS / "run-files.md").read_text(encoding="utf-8")
    assert all(f"`{field.name}`" in text for field in fields(RoundResult))


def test_readme_has_the_table_written_by_reproduce() -> None:
    page = (DOCS / "results" / "belhadj.md").read_text(encoding="utf-8")
    (table, *_) = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    assert table in README


def test_readme_counts_the_rows_written_by_reproduce() -> None:
    rows: list[dict[str, str]] = []
    for report in ("belhadj", "hakobyan", "pillonel", "grall", "gardoni"):
        with (DOCS / "results" / f"{report}.csv").open(encoding="utf-8", newline="") as file:
            rows += csv.DictReader(file)
    same = sum(row["contains_zero"] == "True" for row in rows)
    words = " ".join(README.split())
    assert f"{len(rows)} rows of published accuracies" in words
    assert f"Each of the {len(rows)} rows" in words
    assert f"For {same} of them, the 95 % interval" in words
    assert f"explain the other {len(rows) - same}:" in words


def test_readme_has_the_times_written_by_the_benchmarks() -> None:
    words = " ".join(README.split())
    idle, loop, busy, busy_loop = re.findall(r"\| (\d+ s) ", (DOCS / "job.md").read_text(encoding="utf-8"))
    assert f"the first command takes {idle} from the shell prompt" in words
    assert f"over the same ten rounds takes {loop}." in words
    assert f"(one other busy process per core), it is {busy} and {busy_loop}" in words
    lines = (DOCS / "speed.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("|")]
    for machine, text in {"idle": " than in the plain loop on an idle machine", "busy": " on a busy one;"}.items():
        ratios = sorted(float(row[8].split()[0]) for row in cells if row[2:4] == [machine, "20"])
        assert f"{ratios[0]} to {ratios[-1]} times less{text}" in words


def test_citation_has_the_version_and_the_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"], citation["type"]) == (__version__, "MIT", "software")
    assert f"## [{__version__}] - {citation['date-released']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_pre_commit_hooks_match_ci() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    script = (ROOT / ".ci" / "run").read_text()
    assert len(local["hooks"]) == 3
    assert all(f"\n{hook['entry']}\n" in script for hook in local["hooks"])


def test_ci_checks_the_types_for_each_operating_system() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert {"mypy", "mypy --platform win32", "mypy --platform darwin"} <= set(lines)


def test_ci_runs_the_commands_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert 'pip install -q -e ".[dev]"\n' in script
    assert "\npytest\n" in script


def list_declared_pythons() -> list[str]:
    """Return the versions that the classifiers name, such as 3.11; the first is the one that runs all tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [classifier.removeprefix("Programming Language :: Python :: ") for classifier in project["classifiers"]]


@pytest.mark.parametrize("file", ["README.md", "docs/reliability.md", "pyproject.toml"])
def test_documented_pythons_are_those_of_the_classifiers(file: str) -> None:
    first, *others = list_declared_pythons()
    words = " ".join((ROOT / file).read_text(encoding="utf-8").split())
    assert f"tested with {first}, fast tests also with {' and '.join(others)}" in words


def write_interpreter(file: Path, script: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    file.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="the interpreters are shell scripts")
def test_ci_finds_the_newest_interpreter_of_each_version_and_names_missing_versions(tmp_path: Path) -> None:
    newest = tmp_path / "pyenv/versions/3.98.1/bin/python"
    write_interpreter(newest, "echo 3 98 1")
    write_interpreter(tmp_path / "bin/python3.98", "echo 3 98 0")
    write_interpreter(tmp_path / "bin/python3.97", "echo not installed >&2; exit 127")  # as a shim of pyenv
    environment = {"PATH": str(tmp_path / "bin"), "PYENV_ROOT": str(tmp_path / "pyenv")}
    command = [sys.executable, ROOT / ".ci" / "pythons.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    assert done.stdout == f"3.98 {newest}\n"
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    missing = [version for version in list_declared_pythons() if version != running]
    assert [line.split()[1] for line in done.stderr.splitlines()] == missing


def test_every_dependency_has_a_minimum_and_a_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    start, end = lines.index("dependencies = ["), lines.index("[project.scripts]")
    declared = [line for line in lines[start:end] if line.startswith('    "')]
    assert len(declared) > 10
    extras = '    "pairs-lit['
    assert [line for line in declared if (">=" not in line and not line.startswith(extras)) or "#" not in line] == []


def test_bundled_yaml_files_are_valid() -> None:
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert isinstance(yaml.safe_load(path.read_text()), dict)
