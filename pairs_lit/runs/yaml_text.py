"""YAML and JSON reader that rejects duplicate keys, of which PyYAML would silently use the last one."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pairs_lit.errors import PairsLitError

_INT, _MERGE, _TIMESTAMP = (f"tag:yaml.org,2002:{name}" for name in ("int", "merge", "timestamp"))
_SafeLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The C implementation if PyYAML has it: it is faster, and accepts tabs between the tokens of a JSON text."""


class Loader(_SafeLoader):  # type: ignore[valid-type, misc] # a class, but mypy takes it for a value
    """Safe loader that reads ``1e-3`` as a number and dates as text, as jsonargparse does."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML reads this attribute of the class
        letter: [(tag, pattern) for tag, pattern in found if tag != _TIMESTAMP]
        for letter, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
)


def load_yaml(text: str, name: str) -> Any:  # noqa: ANN401 - whatever the text holds
    """Return the content of a YAML or JSON text.

    Args:
        text: The text.
        name: The name of the file or option in errors.

    Raises:
        PairsLitError: It has a duplicate key, or a number that YAML reads unexpectedly, such as 010.
        yaml.YAMLError: It is not YAML.
    """
    with _compose_checked(text, name) as (loader, node):
        return None if node is None else loader.construct_document(node)


def load_yaml_file(file: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return the content of a YAML or JSON file.

    Raises:
        PairsLitError: It is not YAML or JSON, or :func:`load` raises it.
        OSError: It cannot be read.
    """
    try:
        return load_yaml(file.read_text(encoding="utf-8-sig"), str(file))
    except yaml.YAMLError as error:
        raise build_yaml_error(str(file), error) from error
    except UnicodeDecodeError as error:
        raise PairsLitError(f"{file} is not UTF-8 text ({error.reason}). Save it in UTF-8.") from error


def compose_yaml(text: str, name: str) -> yaml.Node | None:
    """Return the root node of a YAML or JSON text, or None if it is empty; raise errors like :func:`load`."""
    with _compose_checked(text, name) as (_, node):
        return node


@contextmanager
def _compose_checked(text: str, name: str) -> Iterator[tuple[Loader, yaml.Node | None]]:
    """Yield the loader of a text and the text's root node, after checking all nodes."""
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        _check_nodes(loader, node, name)
        yield loader, node
    finally:
        loader.dispose()


def get_line(node: yaml.Node) -> int:
    """Return the line in which a node begins, counted from 1."""
    return int(node.start_mark.line) + 1


def build_duplicate_key_error(name: str, keys: tuple[str, ...], first: int, second: int) -> PairsLitError:
    """Return the error for a key that occurs in two lines of a file or of an option's text."""
    *above, key = keys
    place = f" (within {'.'.join(above)})" if above else ""
    return PairsLitError(f"{name}: {key} is given twice, in lines {first} and {second}{place}. Keep one.")


def build_yaml_error(name: str, error: yaml.YAMLError) -> PairsLitError:
    """Return the error for a text that is not YAML, with line, column and reason."""
    return PairsLitError(f"{name} is neither YAML nor JSON: {_describe_problem(error)}.")


def _describe_problem(error: yaml.YAMLError) -> str:
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


def _check_nodes(loader: Loader, root: yaml.Node | None, name: str) -> None:
    for keys, node in _iterate_nodes(root):
        if isinstance(node, yaml.MappingNode):
            _check_keys(loader, node, name, keys)
        elif isinstance(node, yaml.ScalarNode) and node.tag == _INT:
            _check_number(node, name, keys)


def _iterate_nodes(root: yaml.Node | None) -> Iterator[tuple[tuple[str, ...], yaml.Node]]:
    """Yield each node once, even if it has aliases, with the keys that lead to it."""
    waiting: list[tuple[tuple[str, ...], yaml.Node]] = [] if root is None else [((), root)]
    seen = set[int]()
    while waiting:
        keys, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield keys, node
        if isinstance(node, yaml.SequenceNode):
            waiting += [((*keys, str(number)), item) for number, item in enumerate(node.value, 1)]
        elif isinstance(node, yaml.MappingNode):
            waiting += [((*keys, str(key.value)), value) for key, value in node.value]


def _check_keys(loader: Loader, node: yaml.MappingNode, name: str, keys: tuple[str, ...]) -> None:
    """Raise PairsLitError if two keys of a mapping are the same text, or the same value such as ``1`` and ``01``."""
    lines = dict[object, int]()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
            alike = {("written", key.value), ("read", _get_key_value(loader, key))}
            before = [lines[form] for form in alike if form in lines]
            if before:
                raise build_duplicate_key_error(name, (*keys, key.value), before[0], get_line(key))
            lines |= dict.fromkeys(alike, get_line(key))


def _get_key_value(loader: Loader, key: yaml.ScalarNode) -> object:
    """Return the value of a key, or its text if it cannot be parsed."""
    try:
        return loader.construct_object(key)
    except (ValueError, yaml.YAMLError):
        return key.value


def _check_number(node: yaml.ScalarNode, name: str, keys: tuple[str, ...]) -> None:
    """Raise PairsLitError for numbers such as ``010``, which YAML reads as 8, and ``1:30``, which it reads as 90."""
    text = node.value.replace("_", "").lstrip("+-")
    base = "60" if ":" in text else "8" if re.fullmatch(r"0[0-7]+", text) and int(text, 8) != int(text) else None
    if base is not None:
        raise PairsLitError(
            f"{name}: {'.'.join(keys)}: YAML reads {node.value}, in line {get_line(node)}, as a number to the base "
            f"{base}. Write it without leading zeros and colons, or in quotes if it is a text."
        )
