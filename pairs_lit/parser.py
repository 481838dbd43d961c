"""The parser of the command line: stock, but its errors are one readable line."""

import re
from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from types import NoneType
from typing import NoReturn, get_args, get_type_hints

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from pairs_lit.errors import PairsLitError

_LONGEST = 300

_REWORDINGS = (
    (
        r"- Not a valid subclass of (\w+) Subclass types expect one of: .*?\(implicit class_path\)",
        r"- Expected a \1's class path",
    ),
    (r"Parser key \"([^\"]+)\": ", r"\1: "),
    (r"- Expected a path but \S+ either not accessible or invalid - ", ""),
    (r"Type \S*Callable\[\[.*?\], \S+?\] expects a function or a callable class: ", ""),
    (r"Does not validate against any of the Union subtypes Subtypes: .*? Errors: ", ""),
    (r"typing\.Literal\[(.*?)\]", r"one of \1"),
    (r"<class '(?:[\w.]+\.)?(\w+)'>", r"\1"),
    (r"Expected an? ", "expected "),
    (r" - expected NoneType", " or null"),
    (r": - expected ", ": expected "),
    (r"Given value type: \S+ Given value: ", "Got value: "),
    (r"\. Got value: Namespace\(.*$", "."),
    (r"\.? Got value: ", ", got "),
)


def readable(message: str) -> str:
    """Put a message of jsonargparse into one line that speaks of options and values, not of Python's types."""
    text = " ".join(message.split())
    for pattern, replacement in _REWORDINGS:
        text = re.sub(pattern, replacement, text)
    text = text.rstrip(".")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"


def check_empty_sections(content: Mapping[str, object], options: Collection[str], prefix: str = "") -> None:
    """Refuse a section without content that no option is in; jsonargparse would not notice it.

    Args:
        content: What a config file says.
        options: The dotted names of all options.
        prefix: What stands before the content's keys.

    Raises:
        PairsLitError: There is such a section.
    """
    for key, value in content.items():
        name = f"{prefix}{key}"
        if not isinstance(value, Mapping):
            continue
        if not value and not any(f"{option}.".startswith(f"{name}.") for option in options):
            raise PairsLitError(f"{name}: there is no such option (pairs-lit COMMAND --help lists the options).")
        if key not in ("init_args", "dict_kwargs"):
            check_empty_sections(value, options, f"{name}.")


def check_nulls(config: Namespace, part: type, section: str) -> None:
    """Refuse null where an option has no such value; in a file, jsonargparse takes it for "not set".

    Args:
        config: A section of the configuration.
        part: The class that it is for.
        section: Its name.

    Raises:
        PairsLitError: An option is null that may not be.
    """
    for name, hint in get_type_hints(vars(part)["__init__"]).items():
        if name not in config:
            continue
        value, option = config[name], f"{section}.{name}"
        if value is None and NoneType not in get_args(hint):
            raise PairsLitError(f"{option} is null, which it may not be: leave it out for its default.")
        if is_dataclass(hint) and isinstance(hint, type):
            check_nulls(value, hint, option)


class PairsParser(LightningArgumentParser):
    """A parser whose errors are ours."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise PairsLitError, where jsonargparse would print its usage and leave."""
        if not self.exit_on_error:
            super().error(message, ex)
        raise PairsLitError(f"{readable(message)} (pairs-lit COMMAND --help lists the options).") from ex
