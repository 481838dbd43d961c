"""YAML and JSON texts in which no key is given twice; YAML itself would silently let the last one count."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pairs_lit.errors import PairsLitError

_INT, _MERGE, _TIMESTAMP = (f"tag:yaml.org,2002:{name}" for name in ("int", "merge", "timestamp"))
_SafeLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C, if PyYAML was built with it: it is faster, and takes tabs between the parts of a JSON text."""


class Loader(_SafeLoader):  # type: ignore[valid-type, misc] # a class, but mypy sees a value
    """Safe loader that reads ``1e-3`` as a number and dates as text, as jsonargparse does."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own, a dictionary of each loader
        letter: [(tag, pattern) for tag, pattern in found if tag != _TIMESTAMP]
        for letter, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
)


def load(text: str, name: str) -> Any:  # noqa: ANN401 - whatever the text holds
    """Return what a YAML or JSON text holds.

    Args:
        text: The text.
        name: The file or option that errors name.

    Raises:
        PairsLitError: A key is given twice, or a number means something else than it seems to.
        yaml.YAMLError: It is not YAML.
    """
    with _composed(text, name) as (loader, node):
        return None if node is None else loader.construct_document(node)


def load_file(file: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return what a YAML or JSON file holds.

    Raises:
        PairsLitError: It is no such text, or :func:`load` raises it.
        OSError: It cannot be read.
    """
    try:
        return load(file.read_text(encoding="utf-8-sig"), str(file))
    except yaml.YAMLError as error:
        raise not_yaml(str(file), error) from error
    except UnicodeDecodeError as error:
        raise PairsLitError(f"{file} is not UTF-8 text ({error.reason}): save it in UTF-8.") from error


def compose(text: str, name: str) -> yaml.Node | None:
    """Return the nodes of a YAML or JSON text, or None if it is empty; raise as :func:`load` does."""
    with _composed(text, name) as (_, node):
        return node


@contextmanager
def _composed(text: str, name: str) -> Iterator[tuple[Loader, yaml.Node | None]]:
    """Provide a loader of a text and the text's nodes, checked."""
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        _check(loader, node, name)
        yield loader, node
    finally:
        loader.dispose()


def line_of(node: yaml.Node) -> int:
    """Return the line in which a node begins, from 1."""
    return int(node.start_mark.line) + 1


def told_twice(name: str, keys: tuple[str, ...], first: int, second: int) -> PairsLitError:
    """Return the error about a key that is given in two lines of a file or an option's text."""
    *above, key = keys
    place = f" (within {'.'.join(above)})" if above else ""
    return PairsLitError(f"{name}: {key}: stands twice, in lines {first} and {second}{place}: keep one.")


def not_yaml(name: str, error: yaml.YAMLError) -> PairsLitError:
    """Return the error about a text that is not YAML: where and why."""
    return PairsLitError(f"{name} is neither YAML nor JSON: {_problem_of(error)}.")


def _problem_of(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark, problem = error.problem_mark, error.problem or "it cannot be read"
    advice = next((advice for words, advice in _ADVICE.items() if words in f"{error.context} {problem}"), "")
    begin = error.context_mark
    within = f" {error.context} that begins in line {begin.line + 1}" if error.context and begin else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}{within}{advice}"


_ADVICE = {
    "single document": ": leave out the line '---' that begins another document",
    "start any token": ": indent with spaces, not tabs, and put texts with special characters in quotes",
    "unhashable": ": a key must be a text or a number",
}


def _check(loader: Loader, root: yaml.Node | None, name: str) -> None:
    for keys, node in _nodes(root):
        if isinstance(node, yaml.MappingNode):
            _check_keys(loader, node, name, keys)
        elif isinstance(node, yaml.ScalarNode) and node.tag == _INT:
            _check_number(node, name, keys)


def _nodes(root: yaml.Node | None) -> Iterator[tuple[tuple[str, ...], yaml.Node]]:
    """Yield each node once, however many aliases it has, with the keys that lead to it."""
    waiting: list[tuple[tuple[str, ...], yaml.Node]] = [] if root is None else [((), root)]
    seen = set[int]()
    while waiting:
        keys, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield keys, node
        if isinstance(node, yaml.SequenceNode):
            waiting += [((*keys, str(number)), each) for number, each in enumerate(node.value, 1)]
        elif isinstance(node, yaml.MappingNode):
            waiting += [((*keys, str(key.value)), each) for key, each in node.value]


def _check_keys(loader: Loader, node: yaml.MappingNode, name: str, keys: tuple[str, ...]) -> None:
    """Raise PairsLitError if two keys of a mapping are written alike, or have equal values such as ``1`` and ``01``."""
    lines = dict[object, int]()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
            alike = {("written", key.value), ("read", _value_of(loader, key))}
            before = [lines[each] for each in alike if each in lines]
            if before:
                raise told_twice(name, (*keys, key.value), before[0], line_of(key))
            lines |= dict.fromkeys(alike, line_of(key))


def _value_of(loader: Loader, key: yaml.ScalarNode) -> object:
    """Return what a key is read as, or its text if that is no value."""
    try:
        return loader.construct_object(key)
    except (ValueError, yaml.YAMLError):
        return key.value


def _check_number(node: yaml.ScalarNode, name: str, keys: tuple[str, ...]) -> None:
    """Raise PairsLitError for ``010``, which is 8 in YAML, and ``1:30``, which is 90."""
    text = node.value.replace("_", "").lstrip("+-")
    base = "60" if ":" in text else "8" if re.fullmatch(r"0[0-7]+", text) and int(text, 8) != int(text) else None
    if base is not None:
        raise PairsLitError(
            f"{name}: {'.'.join(keys)}: {node.value}, in line {line_of(node)}, is a number to the base {base} in "
            "YAML: write it without leading zeros and colons, or in quotes if it is a text."
        )
