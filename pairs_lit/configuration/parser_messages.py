"""Rewriting of jsonargparse errors in plain language, without Python types."""

import re
from argparse import SUPPRESS, Action
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from itertools import islice
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from pairs_lit.system.user_modules import describe_hidden_file
from pairs_lit.text import suggest_name

_MAX_LENGTH = 300

_TYPE_DESCRIPTIONS: dict[object, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    NoneType: "null",
}
_EXAMPLES: dict[object, str] = {int: "1", float: "0.5", bool: "true", str: "a", Path: "folder", NoneType: "null"}
_LIST_EXAMPLES: dict[object, list[str]] = {int: ["1", "2"], float: ["0.5", "1"], str: ["a", "b"]}
_YAML_SPELLINGS = {"None": "null", "True": "true", "False": "false", "": "nothing"}

_KEY_PREFIX = "Parser key "
_IMPORT_PROBLEM = re.compile(
    r"No module named '[\w.]+'|module '[\w.]+' has no attribute '\w+'|Option '\w+' is not accepted"
)
"""A class path or one of its settings is wrong; the type of the option does not matter."""
_UNKNOWN_OPTION = re.compile(r"(?:unrecognized arguments:|option:?) '?([\w.-]+)", re.IGNORECASE)
"""An option does not exist, or its abbreviation is ambiguous."""
_REJECTED_OPTION = re.compile(r"Subcommand '\w+' does not accept option '(.+?)'")
_TYPE_MISMATCH = re.compile(
    r"Expected|Does not validate|Not a valid subclass|Unable to load|is not iterable|invalid literal"
    r"|not correspond|Not of type|object has no attribute|unsupported operand|Unexpected import path"
)
_CLASS_PROBLEM = re.compile(r"Problem with given class_path '([\w.]+)':\s+(.+)")
"""A class cannot be used for a reason other than its settings, such as an error in its file."""
_MISMATCH_REASON = re.compile(r"^ {4}- (.+)$", re.MULTILINE)
"""One of the reasons why a value matches none of the allowed types."""
_VALUE_PATTERNS = (
    r"Expected '([\w.]+)' to be a subclass of",
    r"Expected a path but (.*) either not accessible",
    r"Expected a dot import path string: (.*)",
    r"Unable to load config '(.*)'",
    r"(?:Given|Got) value: ?(.*)",
)
_INNER_MESSAGE = re.compile("⟦([^⟦⟧]*)⟧")
_MISSING_SPACE = re.compile(r"\{[^{}]*\w:[^\s/]")
"""A mapping that lacks the space that YAML requires after a colon."""


def wrap_inner_message(message: str, options: Iterable[Action]) -> str:
    """Rewrite and mark an error about a setting of a class, so that :func:`readable` finds it in the outer error."""
    return f"⟦{rewrite_message(message, options)}⟧"


def rewrite_message(message: str, options: Iterable[Action]) -> str:
    """Rewrite an error message of jsonargparse as one line about options and values.

    Args:
        message: The message.
        options: The options of the parser, which know their types.
    """
    if not message.startswith(_KEY_PREFIX):
        unknown, text = _UNKNOWN_OPTION.search(message), _REJECTED_OPTION.sub(r"unknown option \1", message)
        return shorten_message(text) + (suggest_name(unknown[1], _list_option_names(options)) if unknown else "")
    key = re.findall(f'{_KEY_PREFIX}"(.+?)"', message)[-1]  # the innermost key is the wrong one
    inner_message, elsewhere, problem = (
        _INNER_MESSAGE.search(message),
        _IMPORT_PROBLEM.search(message),
        _CLASS_PROBLEM.search(message),
    )
    if inner_message is not None:
        return f"{key}: {inner_message[1]}"
    value = _find_value(message)
    got = "" if value is None else f", got {value}"
    got += ". YAML needs a space after each colon" if _MISSING_SPACE.match(value or "") else ""
    if elsewhere is not None:
        return f"{key}: {elsewhere[0]}{got}{describe_hidden_file(value or '')}"
    if problem is not None:
        return shorten_message(f"{key}: {problem[1]}: {problem[2]}")
    reasons = [reason for reason in _MISMATCH_REASON.findall(message) if not _TYPE_MISMATCH.search(reason)]
    if reasons:
        return shorten_message(f"{key}: {reasons[0]}{got}")
    if _TYPE_MISMATCH.search(message) is None:
        return shorten_message(message)
    hint = next((vars(option).get("_typehint") for option in options if option.dest == key), None)
    expected = "a section of settings or a file" if hint is None else describe_type(hint)
    return shorten_message(f"{key}: expected {expected}{got}")


def _list_option_names(options: Iterable[Action]) -> list[str]:
    """Return the names of the options, and that of the learning rate, which every optimizer has."""
    names = [name for option in options if option.help != SUPPRESS for name in option.option_strings]
    return [*(name.removeprefix("--") for name in names if name.startswith("--")), "model.optimizer.lr"]


def shorten_message(message: str) -> str:
    """Return a message as one line, with its middle cut out if it is too long."""
    text = " ".join(message.split()).rstrip(".")
    text = re.sub(f'{_KEY_PREFIX}"(.+?)"', r"\1", text)
    return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH // 2]} … {text[-_MAX_LENGTH // 2 :]}"


def _find_value(message: str) -> str | None:
    """Return the value that a message reports (the outermost one if there are several), or None."""
    matches: list[str] = [value for pattern in _VALUE_PATTERNS for value in re.findall(pattern, message)]
    values = [value for value in matches if not value.startswith(("NestedArg(", "Namespace("))]
    return _YAML_SPELLINGS.get(values[-1], values[-1]) if values else None


def describe_type(hint: object) -> str:
    """Describe the values of a type in plain language.

    Example:
        >>> in_words(Sequence[int] | None)
        'a list such as [1, 2] or null'
    """
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        *others, last = dict.fromkeys(map(describe_type, _merge_literals(parts)))
        return f"{', '.join(others)} or {last}" if others else last
    if kind is Literal:
        return f"one of {', '.join(map(repr, parts))}" if len(parts) > 1 else repr(parts[0])
    if hint in _TYPE_DESCRIPTIONS:
        return _TYPE_DESCRIPTIONS[hint]
    if _is_subclass(kind, Mapping):
        return f"a mapping such as {_format_example(hint)}"
    if _is_list(kind):
        return f"a list such as {_format_example(hint)}"
    if is_dataclass(kind):
        return f"settings such as {_format_example(hint)}"
    base = parts[-1] if kind is Callable and parts else kind
    base = get_args(base)[0] if get_origin(base) in (Union, UnionType) else base
    return f"the class path of a subclass of {getattr(base, '__name__', base)}"


def _merge_literals(parts: Sequence[object]) -> list[object]:
    """Return the parts of a union, with all its literals merged into one at the place of the first."""
    values = [value for part in parts if get_origin(part) is Literal for value in get_args(part)]
    merged = [Literal[tuple(values)] if get_origin(part) is Literal else part for part in parts]
    return list(dict.fromkeys(merged))


def _is_subclass(kind: object, base: type | tuple[type, ...]) -> bool:
    return isinstance(kind, type) and issubclass(kind, base)


def _is_list(kind: object) -> bool:
    return kind is Iterable or _is_subclass(kind, (Sequence, Set))


def _format_example(hint: object) -> str:
    """Return an example value of a type, as written in YAML."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if hint in _EXAMPLES:
        return _EXAMPLES[hint]
    if kind in (Union, UnionType):
        return _format_example(parts[0])
    if kind is Literal:
        return str(parts[0])
    if _is_subclass(kind, Mapping):
        return f"{{{': '.join(map(_format_example, parts))}}}" if parts else "{a: 1}"
    if _is_list(kind):
        first = parts[0] if parts else str
        values = map(str, islice(get_args(first), 2)) if get_origin(first) is Literal else [_format_example(first)]
        return f"[{', '.join(_LIST_EXAMPLES.get(first, values))}]"
    if is_dataclass(kind):
        name = fields(cast(Any, kind))[0].name
        return f"{{{name}: {_format_example(get_type_hints(kind)[name])}}}"
    return "module.Class"
