"""Detection of options that a YAML or JSON text of the command line sets twice."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import yaml
from jsonargparse import get_loader, set_loader

from pairs_lit.configuration.option_text import iter_options
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.yaml_text import build_duplicate_key_error, build_yaml_error, compose_yaml, get_line
from pairs_lit.system.paths import expand_user_path
from pairs_lit.system.user_modules import prefer_local_modules

PARSER_MODE = "yaml without duplicates"
"""The parser mode of jsonargparse that checks every text for duplicate keys."""

_STRING_TAG = "tag:yaml.org,2002:str"
_WRAPPER_KEYS = ("init_args", "dict_kwargs")
_FILE_SUFFIXES = (".yaml", ".yml", ".json")
_MAX_DEPTH = 3
"""The nesting depth down to which a config is searched for names of further files: that of ``trainer.callbacks``."""


def check_duplicate_options(tokens: Sequence[str]) -> None:
    """Raise PairsLitError if an option's text or file, or a further file named in it, sets an option twice.

    Class paths in these texts that name a file in the current folder are registered, so that this file is imported even
    if Python has a module of the same name.
    """
    for option, value in iter_options(tokens):
        _check_value(option, value, Path(), is_config=option == "--config")


def _check_value(name: str, value: str, folder: Path, *, is_config: bool, depth: int = 0) -> None:
    """Check the text of an option, or the file that it names."""
    file = _find_file(value, folder)
    if file is None:
        _check_text(value, name, folder, depth, has_options=is_config)
    elif is_config or file.suffix in _FILE_SUFFIXES:
        with suppress(UnicodeDecodeError, OSError):  # the parser reports such a file later
            text = file.read_text(encoding="utf-8-sig")
            _check_text(text, str(file), file.parent, depth, has_options=is_config)


def _find_file(value: str, folder: Path) -> Path | None:
    """Return the file that a value names, or None if it does not name one."""
    with suppress(OSError, ValueError, PairsLitError):  # for instance, the value is too long for a file name
        file = folder / expand_user_path(value)
        return file if file.is_file() else None
    return None


def _check_text(text: str, name: str, folder: Path, depth: int, *, has_options: bool) -> None:
    """Check a text, and the files that are named in it."""
    prefer_local_modules(text)
    if not set(text) & set("{:?"):  # without these characters, the text cannot contain keys
        return
    try:
        node = compose_yaml(text, name)
    except yaml.YAMLError as error:
        if has_options:
            raise build_yaml_error(name, error) from error
        return  # the option may take any text
    if has_options:
        _check_option_paths(node, name)
    for value in _iter_values(node, _MAX_DEPTH - depth):
        if value.endswith(_FILE_SUFFIXES):
            _check_value(value, value, folder, is_config=False, depth=depth + 1)


def _iter_values(node: yaml.Node | None, depth: int) -> Iterator[str]:
    """Yield the texts among the values of nested mappings and lists, down to a depth."""
    if isinstance(node, yaml.ScalarNode):
        yield node.value
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _iter_values(item, depth - 1) if depth > 0 else ()
    elif isinstance(node, yaml.MappingNode) and depth > 0:
        for _, value in node.value:
            yield from _iter_values(value, depth - 1)


def _check_option_paths(root: yaml.Node | None, name: str) -> None:
    """Raise PairsLitError if dotted and nested keys set the same option, since jsonargparse would drop one of them."""
    seen = dict[tuple[str, ...], int]()
    for path, line, is_section in _iter_settings(root, (), set()):
        conflicts = (known for known in seen if known[: len(path)] == path or path[: len(known)] == known)
        conflict = next(conflicts, None)
        if conflict is not None:
            raise _build_duplicate_error(name, conflict, path, seen[conflict], line)
        if not is_section:
            seen[path] = line


def _build_duplicate_error(
    name: str, first: tuple[str, ...], second: tuple[str, ...], first_line: int, second_line: int
) -> PairsLitError:
    """Build the error for two keys that set the same option."""
    if first == second:
        return build_duplicate_key_error(name, second, first_line, second_line)
    return PairsLitError(
        f"{name}: {'.'.join(first)} (line {first_line}) and {'.'.join(second)} (line {second_line}) set the same "
        "option, and one of them would be dropped. Write both in one section."
    )


def _iter_settings(
    node: yaml.Node | None, above: tuple[str, ...], visited: set[int]
) -> Iterator[tuple[tuple[str, ...], int, bool]]:
    """Yield each setting of a config.

    Args:
        node: The root of the config, or a part of it.
        above: The keys that lead to this part.
        visited: The mappings seen so far, by ``id``.

    Yields:
        The setting as the parts of its dotted name, its line, and whether it is a section.
    """
    if not isinstance(node, yaml.MappingNode) or id(node) in visited:  # a YAML alias may refer to itself
        return
    visited.add(id(node))
    for key, value in node.value:
        if key.tag == _STRING_TAG:
            parts = tuple(part for part in key.value.split(".") if part not in _WRAPPER_KEYS)
            if parts:
                yield (*above, *parts), get_line(key), isinstance(value, yaml.MappingNode)
            yield from _iter_settings(value, (*above, *parts), visited)


def _load_yaml(text: str) -> object:
    """Load YAML as jsonargparse does; raise PairsLitError if a key occurs twice."""
    with suppress(yaml.YAMLError):
        compose_yaml(text, "a text or file with settings")
    return get_loader("yaml")(text)


set_loader(PARSER_MODE, _load_yaml, (yaml.YAMLError,))
