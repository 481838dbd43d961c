"""The rules of the house: what CONTRIBUTING's map says of rooms and floors is what the imports do."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent / "pairs_lit"
FLOORS = [
    "cli",
    "commands",
    "reproduction",
    "trained",
    "sweeps",
    "training",
    "nn",
    "stacking",
    "data",
    "analysis",
    "runs",
    "words",
]
"""From the top down; what stands in the root, except for the entry, is words that all rooms use."""

ENTRY = {"pairs_lit.__main__", "pairs_lit.cli"}


def name_of(path: Path) -> str:
    parts = path.relative_to(HOUSE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in HOUSE.rglob("*.py")}


def imports(name: str) -> set[str]:
    """Return what a module imports of the house, wherever in it; the package itself is but the list of public names."""
    found = set[str]()
    if name == HOUSE.name:
        return found
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            below = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= below or {node.module}
    return found & MODULES.keys()


def floor(name: str) -> int:
    if name in ENTRY:
        return FLOORS.index("cli")
    folder = MODULES[name].parent.name
    return FLOORS.index("words" if folder == HOUSE.name else folder)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_down(name: str) -> None:
    up = {other for other in imports(name) if floor(other) < floor(name)}
    assert not up, f"{name} imports from above: {up}"


def test_no_files_import_each_other_in_a_circle() -> None:
    list(TopologicalSorter({name: imports(name) for name in MODULES}).static_order())  # raises CycleError


def test_the_root_is_small() -> None:
    assert len(list(HOUSE.glob("*.py"))) <= 10


def test_only_its_command_knows_the_course() -> None:
    users = {name for name in MODULES if any(other.startswith("pairs_lit.reproduction.") for other in imports(name))}
    assert {name for name in users if ".reproduction" not in name} == {"pairs_lit.commands.reproduce"}


def test_the_map_names_every_room_and_file() -> None:
    text = (HOUSE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    missing = [name for name, path in MODULES.items() if path.name != "__init__.py" and path.name not in text]
    assert not missing
    assert "```mermaid" in text


@pytest.mark.parametrize("room", ["analysis", "reproduction", "runs", "sweeps"])
def test_rooms_without_torch(room: str) -> None:
    heavy = {"torch", "lightning", "torchmetrics"}
    for path in (HOUSE / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            assert not {name.split(".")[0] for name in names} & heavy, path
