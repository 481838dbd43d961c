"""Checks of the YAML and JSON texts that a command line gives: no option is set twice in one of them."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import yaml
from jsonargparse import get_loader, set_loader

from pairs_lit.configuration.option_text import options_in
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.yaml_text import compose, line_of, not_yaml, told_twice
from pairs_lit.system.paths import user_path
from pairs_lit.system.user_modules import prefer_own_modules

MODE = "yaml without duplicates"
"""The parser mode of jsonargparse in which every text that it reads is checked."""

_TEXT = "tag:yaml.org,2002:str"
_WRAPPERS = ("init_args", "dict_kwargs")
_ENDINGS = (".yaml", ".yml", ".json")
_DEEPEST = 3
"""So deep in a config may a file of settings stand that an error must name: in the list ``trainer.callbacks``."""


def check_texts(tokens: Sequence[str]) -> None:
    """Raise PairsLitError if an option's text, its file, or a file that this names sets something twice.

    Class paths in them that name a file here are found there, even where Python has a module of this name.
    """
    for option, value in options_in(tokens):
        _check_value(option, value, Path(), is_config=option == "--config")


def _check_value(name: str, value: str, folder: Path, *, is_config: bool, depth: int = 0) -> None:
    file = _file_of(value, folder)
    if file is None:
        _check_text(value, name, folder, depth, has_options=is_config)
    elif is_config or file.suffix in _ENDINGS:
        with suppress(UnicodeDecodeError, OSError):  # what reads it says so
            text = file.read_text(encoding="utf-8-sig")
            _check_text(text, str(file), file.parent, depth, has_options=is_config)


def _file_of(value: str, folder: Path) -> Path | None:
    with suppress(OSError, ValueError, PairsLitError):  # too long for a file's name, say
        file = folder / user_path(value)
        return file if file.is_file() else None
    return None


def _check_text(text: str, name: str, folder: Path, depth: int, *, has_options: bool) -> None:
    prefer_own_modules(text)
    if not set(text) & set("{:?"):  # no keys
        return
    try:
        node = compose(text, name)
    except yaml.YAMLError as error:
        if has_options:
            raise not_yaml(name, error) from error
        return  # any text is a value of some option
    if has_options:
        _check_paths(node, name)
    for value in _values(node, _DEEPEST - depth):
        if value.endswith(_ENDINGS):
            _check_value(value, value, folder, is_config=False, depth=depth + 1)


def _values(node: yaml.Node | None, depth: int) -> Iterator[str]:
    """Yield the texts that are values in a mapping, and in mappings and lists in it, down to a depth."""
    if isinstance(node, yaml.ScalarNode):
        yield node.value
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _values(each, depth - 1) if depth > 0 else ()
    elif isinstance(node, yaml.MappingNode) and depth > 0:
        for _, each in node.value:
            yield from _values(each, depth - 1)


def _check_paths(root: yaml.Node | None, name: str) -> None:
    """Raise PairsLitError if dotted and nested keys set the same option: jsonargparse would drop one of them."""
    seen = dict[tuple[str, ...], int]()
    for path, line, is_section in _settings(root, (), set()):
        others = (each for each in seen if each[: len(path)] == path or path[: len(each)] == each)
        other = next(others, None)
        if other is not None:
            raise _told_dotted(name, other, path, seen[other], line)
        if not is_section:
            seen[path] = line


def _told_dotted(name: str, one: tuple[str, ...], other: tuple[str, ...], first: int, second: int) -> PairsLitError:
    if one == other:
        return told_twice(name, other, first, second)
    return PairsLitError(
        f"{name}: {'.'.join(one)} and {'.'.join(other)}, in lines {first} and {second}, set the same option twice: "
        "write both in one section, since one of them would be dropped."
    )


def _settings(
    node: yaml.Node | None, above: tuple[str, ...], visited: set[int]
) -> Iterator[tuple[tuple[str, ...], int, bool]]:
    """Yield what a config sets, as the dotted names of options name it, its line, and whether more is within it."""
    if not isinstance(node, yaml.MappingNode) or id(node) in visited:  # an alias may lead to itself
        return
    visited.add(id(node))
    for key, value in node.value:
        if key.tag == _TEXT:
            own = tuple(part for part in key.value.split(".") if part not in _WRAPPERS)
            if own:
                yield (*above, *own), line_of(key), isinstance(value, yaml.MappingNode)
            yield from _settings(value, (*above, *own), visited)


def _load(text: str) -> object:
    """Read a text as jsonargparse does, unless a key stands twice in it."""
    with suppress(yaml.YAMLError):
        compose(text, "a text or file of settings")
    return get_loader("yaml")(text)


set_loader(MODE, _load, (yaml.YAMLError,))
