"""What an option takes and what it was given, in words: messages of jsonargparse without Python's types."""

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
    str: "a text",
    Path: "a path",
    NoneType: "null",
}
_EXAMPLES: dict[object, str] = {int: "1", float: "0.5", bool: "true", str: "a", Path: "folder", NoneType: "null"}
_LISTED: dict[object, list[str]] = {int: ["1", "2"], float: ["0.5", "1"], str: ["a", "b"]}
_IN_YAML = {"None": "null", "True": "true", "False": "false", "": "nothing"}

_KEY = "Parser key "
_ELSEWHERE = re.compile(r"No module named '[\w.]+'|module '[\w.]+' has no attribute '\w+'|Option '\w+' is not accepted")
"""What is wrong with a class path or one of its settings: the option's type has nothing to do with it."""
_UNKNOWN = re.compile(r"(?:unrecognized arguments:|option:?) '?([\w.-]+)", re.IGNORECASE)
"""An option that does not exist, or that could be several."""
_REFUSED = re.compile(r"Subcommand '\w+' does not accept option '(.+?)'")
_MISMATCH = re.compile(
    r"Expected|Does not validate|Not a valid subclass|Unable to load|is not iterable|invalid literal"
    r"|not correspond|Not of type|object has no attribute|unsupported operand|Unexpected import path"
)
_PROBLEM = re.compile(r"Problem with given class_path '([\w.]+)':\s+(.+)")
"""What went wrong with a class other than one of its settings, such as an error in its file."""
_REASONS = re.compile(r"^ {4}- (.+)$", re.MULTILINE)
"""Why a value has none of several types, one after the other."""
_VALUES = (
    r"Expected '([\w.]+)' to be a subclass of",
    r"Expected a path but (.*) either not accessible",
    r"Expected a dot import path string: (.*)",
    r"Unable to load config '(.*)'",
    r"(?:Given|Got) value: ?(.*)",
)
_INNER = re.compile("⟦([^⟦⟧]*)⟧")
_UNSPACED = re.compile(r"\{[^{}]*\w:[^\s/]")
"""A mapping without the space that YAML needs after a colon."""


def inner(message: str, options: Iterable[Action]) -> str:
    """Return a message about a setting of a class such that :func:`readable` finds it in those around it."""
    return f"⟦{readable(message, options)}⟧"


def readable(message: str, options: Iterable[Action]) -> str:
    """Rewrite a message of jsonargparse as one line about options and values.

    Args:
        message: The message.
        options: Those of the parser, which know their types.
    """
    if not message.startswith(_KEY):
        unknown, said = _UNKNOWN.search(message), _REFUSED.sub(r"there is no option \1", message)
        return shortened(said) + (meant(unknown[1], _names(options)) if unknown else "")
    key = re.findall(f'{_KEY}"(.+?)"', message)[-1]  # the innermost is the one that is wrong
    within, elsewhere, problem = _INNER.search(message), _ELSEWHERE.search(message), _PROBLEM.search(message)
    if within is not None:
        return f"{key}: {within[1]}"
    value = _value(message)
    got = "" if value is None else f", got {value}"
    got += ": YAML needs a space after each colon" if _UNSPACED.match(value or "") else ""
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
    taken = "settings, or a file of them" if hint is None else in_words(hint)
    return shortened(f"{key}: expected {taken}{got}")


def _names(options: Iterable[Action]) -> list[str]:
    """Return the names of options, and that of the learning rate, which is an option of every optimizer."""
    given = [name for option in options if option.help != SUPPRESS for name in option.option_strings]
    return [*(name.removeprefix("--") for name in given if name.startswith("--")), "model.optimizer.lr"]


def shortened(message: str) -> str:
    """Return a message as one line that is not too long."""
    text = " ".join(message.split()).rstrip(".")
    text = re.sub(f'{_KEY}"(.+?)"', r"\1", text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"


def _value(message: str) -> str | None:
    """Return the value that a message is about, the outermost if it names several."""
    found: list[str] = [value for pattern in _VALUES for value in re.findall(pattern, message)]
    written = [value for value in found if not value.startswith(("NestedArg(", "Namespace("))]
    return _IN_YAML.get(written[-1], written[-1]) if written else None


def in_words(hint: object) -> str:
    """Say in words which values have a type.

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
    made = parts[-1] if kind is Callable and parts else kind
    made = get_args(made)[0] if get_origin(made) in (Union, UnionType) else made
    return f"the class path of a subclass of {getattr(made, '__name__', made)}"


def _with_one_literal(parts: Sequence[object]) -> list[object]:
    """Return the parts of a union with the values of all literals in the place of the first."""
    values = [value for part in parts if get_origin(part) is Literal for value in get_args(part)]
    found = [Literal[tuple(values)] if get_origin(part) is Literal else part for part in parts]
    return list(dict.fromkeys(found))


def _is_kind(kind: object, of: type | tuple[type, ...]) -> bool:
    return isinstance(kind, type) and issubclass(kind, of)


def _is_list(kind: object) -> bool:
    return kind is Iterable or _is_kind(kind, (Sequence, Set))


def _example(hint: object) -> str:
    """Return a value of a type, as YAML writes it."""
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
