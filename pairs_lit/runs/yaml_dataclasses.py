"""YAML files as dataclasses; errors name the file and the key."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

import yaml

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.yaml_text import load_yaml
from pairs_lit.system.tracebacks import format_reason

T = TypeVar("T")


READER_KEY = "reader"
"""The key of a field's metadata for a function that parses its value, given the value and the file's name."""


def read_dataclass(file: Path, kind: type[T]) -> T:
    """Read a YAML file as a dataclass of texts, numbers, choices, mappings, tuples, and other such dataclasses.

    Raises:
        PairsLitError: The file cannot be read, or does not fit the class; the message names file and key.
    """
    try:
        content = load_yaml(file.read_text(encoding="utf-8-sig"), str(file))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PairsLitError(f"{file} cannot be read ({format_reason(error)}).") from error
    return cast(T, _parse_value(kind, content, (str(file),)))


def parse_dataclass(kind: type[T], content: Mapping[str, object], name: str) -> T:
    """Return the content of a file of this name as a dataclass, like :func:`read`."""
    return cast(T, _parse_value(kind, dict(content), (name,)))


def raise_at_key(place: tuple[str, ...], reason: str) -> NoReturn:
    """Raise PairsLitError with the place of a value: the file, then the keys that lead to it."""
    file, *keys = place
    raise PairsLitError(f"{file}: {'.'.join(keys) or 'its top level'}: {reason}.")


_SCALARS: dict[type, tuple[tuple[type, ...], str]] = {
    str: ((str,), "a text (a number in quotes is one)"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
}


def _parse_value(kind: Any, value: object, place: tuple[str, ...]) -> Any:  # noqa: ANN401 - any type that a field may have
    """Return a value as an instance of a type; raise PairsLitError if it does not fit."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _parse_fields(kind, _check_mapping(value, place), place)
    if origin is tuple:
        if not isinstance(value, list):
            raise_at_key(place, f"expected a list, got {value!r}")
        labels = [_get_item_label(inner[0], item, number) for number, item in enumerate(value, 1)]
        return tuple(_parse_value(inner[0], item, (*place, label)) for item, label in zip(value, labels, strict=True))
    if origin is Mapping:
        return {key: _parse_value(inner[1], item, (*place, key)) for key, item in _check_mapping(value, place).items()}
    if origin is UnionType:  # X | None
        return None if value is None else _parse_value(inner[0], value, place)
    if origin is Literal:
        if value not in inner:
            raise_at_key(place, f"expected one of {', '.join(inner)}, got {value!r}")
        return value
    allowed, expected = _SCALARS[kind]
    if type(value) not in allowed:  # not isinstance, since True is an int
        raise_at_key(place, f"expected {expected}, got {value!r}")
    return kind(value)


def _parse_fields(kind: Any, content: Mapping[str, object], place: tuple[str, ...]) -> object:  # noqa: ANN401
    known = {field.name: field for field in fields(kind)}
    for key in content:
        if key not in known:
            raise_at_key((*place, key), f"there is no such key, use {', '.join(known)}")
    for name, field in known.items():
        if name not in content and field.default is MISSING and field.default_factory is MISSING:
            raise_at_key((*place, name), "is missing")
    hints = get_type_hints(kind)
    readers = {key: field.metadata[READER_KEY] for key, field in known.items() if READER_KEY in field.metadata}
    special = {key: readers[key](content[key], place[0]) for key in readers if key in content}
    others = {
        key: _parse_value(hints[key], value, (*place, key)) for key, value in content.items() if key not in readers
    }
    return kind(**others, **special)


def _check_mapping(value: object, place: tuple[str, ...]) -> dict[str, object]:
    if not isinstance(value, dict):
        raise_at_key(place, f"expected keys with values, got {value!r}")
    return {str(key): item for key, item in value.items()}


def _get_item_label(kind: Any, item: object, number: int) -> str:  # noqa: ANN401
    """Return the name of a list item for errors: the first field of its class if that is a text, or its number."""
    first = item.get(fields(kind)[0].name) if is_dataclass(kind) and isinstance(item, dict) else None
    return first if isinstance(first, str) else str(number)
