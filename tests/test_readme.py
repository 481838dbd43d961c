import re
from pathlib import Path

import pytest
import yaml

from pairs_lit.cli import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# a plain Trainer says these; the command line has them silenced
LIGHTNINGS_OWN = [
    "ignore:.*does not have many workers:UserWarning",
    "ignore:The number of training batches:UserWarning",
]


@pytest.mark.filterwarnings(*LIGHTNINGS_OWN)
def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = [code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "Trainer(" in code]
    exec(compile(example, "README.md", "exec"), {})
    assert "10 rounds (seeds 0 to 9), 5 epochs" in capsys.readouterr().out
    assert list(tmp_path.rglob("rounds.csv"))


def test_the_two_commands_are_those_of_the_package() -> None:
    assert "pip install . && pairs-lit fit --config configs/cnn_aux.yaml\n" in README
    assert 'pip install -e ".[dev]" && pytest\n' in README


def test_every_file_that_is_named_exists() -> None:
    named = set(re.findall(r"(?:configs|docs)/[\w/]+\.\w+", README)) | set(re.findall(r"\]\(([^)]+)\)", README))
    assert {"configs/cnn_aux.yaml", "docs/results/belhadj_epochs.png", "CHANGELOG.md"} <= named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_every_command_is_explained() -> None:
    assert all(f"`{name}`" in README for name in COMMANDS)


def test_the_table_is_the_one_that_reproduce_wrote() -> None:
    page = (ROOT / "docs" / "results" / "belhadj.md").read_text(encoding="utf-8")
    (table, *_) = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    assert table in README
    assert (ROOT / "docs" / "job.md").read_text(encoding="utf-8") in README


def test_ci_runs_the_readmes_own_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert 'pip install -q -e ".[dev]"\n' in script
    assert "\npytest\n" in script


def test_every_dependency_has_a_minimum_and_a_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    start, end = lines.index("dependencies = ["), lines.index("[project.scripts]")
    declared = [line for line in lines[start:end] if line.startswith('    "')]
    assert len(declared) > 10
    assert [line for line in declared if ">=" not in line or "#" not in line] == []


def test_the_shipped_yaml_files_are_valid() -> None:
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert isinstance(yaml.safe_load(path.read_text()), dict)
