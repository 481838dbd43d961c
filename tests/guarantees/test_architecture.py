"""Layers of the package, as CONTRIBUTING describes them: each folder imports only from folders below it."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "pairs_lit"
LAYERS = [
    "cli",
    "commands",
    "sweeps",
    "inference",
    "variants",
    "configuration",
    "reproduction",
    "training",
    "analysis",
    "checkpoints",
    "nn",
    "stacking",
    "data",
    "workers",
    "runs",
    "system",
    "root",
]
"""The layers from top to bottom; ``root`` stands for the modules next to the folders, which every layer uses."""

ENTRY = {"pairs_lit.__main__", "pairs_lit.cli"}

UPWARDS = {("pairs_lit.training.module", "pairs_lit.inference.open_run")}
"""The only exemption: Lightning expects ``PairModule.load_from_checkpoint(path)`` to need no further arguments, and
only the run's config.yaml knows how to build the module."""

LARGEST_SHARE = 0.15
"""The largest share of the package's lines in one folder."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py")}


def imports(name: str) -> set[str]:
    """Return the modules of the package that a module imports; the package's own list of public names is left out."""
    imported = set[str]()
    if name == PACKAGE.name:
        return imported
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{name} imports relatively"
            below = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            imported |= below or {node.module}
    return {other for other in imported & MODULES.keys() if (name, other) not in UPWARDS}


def layer(name: str) -> int:
    if name in ENTRY:
        return LAYERS.index("cli")
    parts = name.split(".")
    is_folder = len(parts) > 1 and (PACKAGE / parts[1]).is_dir()
    return LAYERS.index(parts[1] if is_folder else "root")


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_down(name: str) -> None:
    upwards = {other for other in imports(name) if layer(other) < layer(name)}
    assert not upwards, f"{name} imports from a higher layer: {upwards}"


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {PACKAGE.name}))
def test_no_module_imports_the_package_itself(name: str) -> None:
    whole = [node for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))) if _is_whole(node)]
    assert not whole, f"{name}, line {whole[0].lineno}: import from the module that defines it"


def _is_whole(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == PACKAGE.name and {alias.name for alias in node.names} != {"__version__"}
    return isinstance(node, ast.Import) and PACKAGE.name in {alias.name for alias in node.names}


def test_exempted_imports_still_exist() -> None:
    for name, other in UPWARDS:
        assert other.rpartition(".")[2] in MODULES[name].read_text(encoding="utf-8")
        assert layer(other) < layer(name)


def test_imports_are_acyclic() -> None:
    list(TopologicalSorter({name: imports(name) for name in MODULES}).static_order())  # raises CycleError


def test_root_has_few_modules() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 9


def test_no_folder_holds_most_of_the_code() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    for folder in filter(Path.is_dir, PACKAGE.iterdir()):
        share = sum(lines[name_of(path)] for path in folder.rglob("*.py")) / sum(lines.values())
        assert share <= LARGEST_SHARE, f"{folder.name}: {share:.0%}"


def test_only_the_reproduce_command_imports_reproduction() -> None:
    users = {name for name in MODULES if any(other.startswith("pairs_lit.reproduction.") for other in imports(name))}
    assert {name for name in users if ".reproduction" not in name} == {"pairs_lit.commands.reproduce"}


def test_contributing_lists_every_folder() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if (path / "__init__.py").is_file()]
    assert not [folder for folder in folders if f"`{folder.as_posix()}/`" not in text]
    assert "```mermaid" in text


@pytest.mark.parametrize("folder", ["analysis", "reproduction", "runs"])
def test_light_folders_do_not_import_torch(folder: str) -> None:
    heavy = {"torch", "lightning", "torchmetrics"}
    for path in (PACKAGE / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            assert not {name.split(".")[0] for name in names} & heavy, path


def test_there_are_no_symbolic_links() -> None:
    folders = [ROOT / name for name in ("pairs_lit", "configs", "tests", "docs", "benchmarks", ".ci")]
    assert not [path for folder in folders for path in folder.rglob("*") if path.is_symlink()]
