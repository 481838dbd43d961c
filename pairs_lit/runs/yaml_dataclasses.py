"""Data files as dataclasses: what a class does not allow is refused with the file and the key."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

import yaml

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.yaml_text import load
from pairs_lit.system.tracebacks import reason_of

T = TypeVar("T")


READER = "reader"
"""The key of a field's metadata that holds a function which reads its value, from this and the file's name."""


def read(file: Path, kind: type[T]) -> T:
    """Read a YAML file as a dataclass of texts, numbers, choices, mappings, tuples, and other such dataclasses.

    Raises:
        PairsLitError: The file cannot be read, or is not what the class asks for; the message names file and key.
    """
    try:
        content = load(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PairsLitError(f"{file} cannot be read ({reason_of(error)}).") from error
    return cast(T, _made(kind, content, (str(file),)))


def made(kind: type[T], content: Mapping[str, object], name: str) -> T:
    """Return what a file of this name would hold as a dataclass, as :func:`read` does."""
    return cast(T, _made(kind, dict(content), (name,)))


def refuse(place: tuple[str, ...], reason: str) -> NoReturn:
    """Refuse what stands at a place: the file, then the keys that lead there.

    Raises:
        PairsLitError: Always.
    """
    file, *keys = place
    raise PairsLitError(f"{file}: {'.'.join(keys) or 'its top level'}: {reason}.")


_SCALARS: dict[type, tuple[tuple[type, ...], str]] = {
    str: ((str,), "a text (a number in quotes is one)"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
}


def _made(kind: Any, value: object, place: tuple[str, ...]) -> Any:  # noqa: ANN401 - any type that a field may have
    """Return a value as a type asks for it."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _made_dataclass(kind, _mapping(value, place), place)
    if origin is tuple:
        if not isinstance(value, list):
            refuse(place, f"expected a list, got {value!r}")
        labels = [_label(inner[0], item, number) for number, item in enumerate(value, 1)]
        return tuple(_made(inner[0], item, (*place, label)) for item, label in zip(value, labels, strict=True))
    if origin is Mapping:
        return {key: _made(inner[1], each, (*place, key)) for key, each in _mapping(value, place).items()}
    if origin is UnionType:  # X | None: what may be left out
        return None if value is None else _made(inner[0], value, place)
    if origin is Literal:
        if value not in inner:
            refuse(place, f"expected one of {', '.join(inner)}, got {value!r}")
        return value
    allowed, shown = _SCALARS[kind]
    if type(value) not in allowed:  # not isinstance: True is an int
        refuse(place, f"expected {shown}, got {value!r}")
    return kind(value)


def _made_dataclass(kind: Any, content: Mapping[str, object], place: tuple[str, ...]) -> object:  # noqa: ANN401
    known = {field.name: field for field in fields(kind)}
    for key in content:
        if key not in known:
            refuse((*place, key), f"there is no such key, use {', '.join(known)}")
    for name, field in known.items():
        if name not in content and field.default is MISSING and field.default_factory is MISSING:
            refuse((*place, name), "is missing")
    hints = get_type_hints(kind)
    own = {key: field.metadata[READER] for key, field in known.items() if READER in field.metadata}
    read_own = {key: own[key](content[key], place[0]) for key in own if key in content}
    others = {key: _made(hints[key], value, (*place, key)) for key, value in content.items() if key not in own}
    return kind(**others, **read_own)


def _mapping(value: object, place: tuple[str, ...]) -> dict[str, object]:
    if not isinstance(value, dict):
        refuse(place, f"expected keys with values, got {value!r}")
    return {str(key): each for key, each in value.items()}


def _label(kind: Any, item: object, number: int) -> str:  # noqa: ANN401
    """Call an item of a list by the first field of its class, a name or a question, else by its number."""
    first = item.get(fields(kind)[0].name) if is_dataclass(kind) and isinstance(item, dict) else None
    return first if isinstance(first, str) else str(number)
