"""Rewriting of jsonargparse errors in plain language, without Python types."""

import re
from argparse import SUPPRESS, Action
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from itertools import islice
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from pairs_lit.system.user_modules import hidden_file
from pairs_lit.text import meant

_LONGEST = 300

_WORDS: dict[object, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    NoneType: "null",
}
_EXAMPLES: dict[object, str] = {int: "1", float: "0.5", bool: "true", str: "a", Path: "folder", NoneType: "null"}
_LISTED: dict[object, list[str]] = {int: ["1", "2"], float: ["0.5", "1"], str: ["a", "b"]}
_IN_YAML = {"None": "null", "True": "true", "False": "false", "": "nothing"}

_KEY = "Parser key "
_ELSEWHERE = re.compile(r"No module named '[\w.]+'|module '[\w.]+' has no attribute '\w+'|Option '\w+' is not accepted")
"""A class path or one of its settings is wrong; the type of the option does not matter."""
_UNKNOWN = re.compile(r"(?:unrecognized arguments:|option:?) '?([\w.-]+)", re.IGNORECASE)
"""An option does not exist, or its abbreviation is ambiguous."""
_REFUSED = re.compile(r"Subcommand '\w+' does not accept option '(.+?)'")
_MISMATCH = re.compile(
    r"Expected|Does not validate|Not a valid subclass|Unable to load|is not iterable|invalid literal"
    r"|not correspond|Not of type|object has no attribute|unsupported operand|Unexpected import path"
)
_PROBLEM = re.compile(r"Problem with given class_path '([\w.]+)':\s+(.+)")
"""A class cannot be used for a reason other than its settings, such as an error in its file."""
_REASONS = re.compile(r"^ {4}- (.+)$", re.MULTILINE)
"""One of the reasons why a value matches none of the allowed types."""
_VALUES = (
    r"Expected '([\w.]+)' to be a subclass of",
    r"Expected a path but (.*) either not accessible",
    r"Expected a dot import path string: (.*)",
    r"Unable to load config '(.*)'",
    r"(?:Given|Got) value: ?(.*)",
)
_INNER = re.compile("⟦([^⟦⟧]*)⟧")
_UNSPACED = re.compile(r"\{[^{}]*\w:[^\s/]")
"""A mapping that lacks the space that YAML requires after a colon."""


def inner(message: str, options: Iterable[Action]) -> str:
    """Rewrite and mark an error about a setting of a class, so that :func:`readable` finds it in the outer error."""
    return f"⟦{readable(message, options)}⟧"


def readable(message: str, options: Iterable[Action]) -> str:
    """Rewrite an error message of jsonargparse as one line about options and values.

    Args:
        message: The message.
        options: The options of the parser, which know their types.
    """
    if not message.startswith(_KEY):
        unknown, text = _UNKNOWN.search(message), _REFUSED.sub(r"unknown option \1", message)
        return shortened(text) + (meant(unknown[1], _names(options)) if unknown else "")
    key = re.findall(f'{_KEY}"(.+?)"', message)[-1]  # the innermost key is the wrong one
    inner_message, elsewhere, problem = _INNER.search(message), _ELSEWHERE.search(message), _PROBLEM.search(message)
    if inner_message is not None:
        return f"{key}: {inner_message[1]}"
    value = _value(message)
    got = "" if value is None else f", got {value}"
    got += ". YAML needs a space after each colon" if _UNSPACED.match(value or "") else ""
    if elsewhere is not None:
        return f"{key}: {elsewhere[0]}{got}{hidden_file(value or '')}"
    if problem is not None:
        return shortened(f"{key}: {problem[1]}: {problem[2]}")
    reasons = [reason for reason in _REASONS.findall(message) if not _MISMATCH.search(reason)]
    if reasons:
        return shortened(f"{key}: {reasons[0]}{got}")
    if _MISMATCH.search(message) is None:
        return shortened(message)
    hint = next((vars(option).get("_typehint") for option in options if option.dest == key), None)
    expected = "a section of settings or a file" if hint is None else in_words(hint)
    return shortened(f"{key}: expected {expected}{got}")


def _names(options: Iterable[Action]) -> list[str]:
    """Return the names of the options, and that of the learning rate, which every optimizer has."""
    names = [name for option in options if option.help != SUPPRESS for name in option.option_strings]
    return [*(name.removeprefix("--") for name in names if name.startswith("--")), "model.optimizer.lr"]


def shortened(message: str) -> str:
    """Return a message as one line, with its middle cut out if it is too long."""
    text = " ".join(message.split()).rstrip(".")
    text = re.sub(f'{_KEY}"(.+?)"', r"\1", text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"


def _value(message: str) -> str | None:
    """Return the value that a message reports (the outermost one if there are several), or None."""
    matches: list[str] = [value for pattern in _VALUES for value in re.findall(pattern, message)]
    values = [value for value in matches if not value.startswith(("NestedArg(", "Namespace("))]
    return _IN_YAML.get(values[-1], values[-1]) if values else None


def in_words(hint: object) -> str:
    """Describe the values of a type in plain language.

    Example:
        >>> in_words(Sequence[int] | None)
        'a list such as [1, 2] or null'
    """
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        *others, last = dict.fromkeys(map(in_words, _with_one_literal(parts)))
        return f"{', '.join(others)} or {last}" if others else last
    if kind is Literal:
        return f"one of {', '.join(map(repr, parts))}" if len(parts) > 1 else repr(parts[0])
    if hint in _WORDS:
        return _WORDS[hint]
    if _is_kind(kind, Mapping):
        return f"a mapping such as {_example(hint)}"
    if _is_list(kind):
        return f"a list such as {_example(hint)}"
    if is_dataclass(kind):
        return f"settings such as {_example(hint)}"
    base = parts[-1] if kind is Callable and parts else kind
    base = get_args(base)[0] if get_origin(base) in (Union, UnionType) else base
    return f"the class path of a subclass of {getattr(base, '__name__', base)}"


def _with_one_literal(parts: Sequence[object]) -> list[object]:
    """Return the parts of a union, with all its literals merged into one at the place of the first."""
    values = [value for part in parts if get_origin(part) is Literal for value in get_args(part)]
    merged = [Literal[tuple(values)] if get_origin(part) is Literal else part for part in parts]
    return list(dict.fromkeys(merged))


def _is_kind(kind: object, base: type | tuple[type, ...]) -> bool:
    return isinstance(kind, type) and issubclass(kind, base)


def _is_list(kind: object) -> bool:
    return kind is Iterable or _is_kind(kind, (Sequence, Set))


def _example(hint: object) -> str:
    """Return an example value of a type, as written in YAML."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if hint in _EXAMPLES:
        return _EXAMPLES[hint]
    if kind in (Union, UnionType):
        return _example(parts[0])
    if kind is Literal:
        return str(parts[0])
    if _is_kind(kind, Mapping):
        return f"{{{': '.join(map(_example, parts))}}}" if parts else "{a: 1}"
    if _is_list(kind):
        first = parts[0] if parts else str
        values = map(str, islice(get_args(first), 2)) if get_origin(first) is Literal else [_example(first)]
        return f"[{', '.join(_LISTED.get(first, values))}]"
    if is_dataclass(kind):
        name = fields(cast(Any, kind))[0].name
        return f"{{{name}: {_example(get_type_hints(kind)[name])}}}"
    return "module.Class"
