"""Options as text, under dotted names."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import yaml


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Flatten a nested configuration to dotted names, without its files; lists and null become text."""
    found: dict[str, str | int | float | bool] = {}
    for name, value in config.items():
        if name in ("config", "__path__"):
            continue
        if isinstance(value, Mapping):
            found |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, int | float | bool):
            found[f"{prefix}{name}"] = value
        else:  # a file name may hold what is no text
            found[f"{prefix}{name}"] = str(value).encode("utf-8", "replace").decode()
    return found


def format_option(value: object) -> str:
    """Spell a value as the command line takes it."""
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, type | FunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    return json.dumps(value, default=format_option)


def format_options(changes: Mapping[str, object]) -> list[str]:
    """Return options by dotted name as arguments of the command line."""
    return [f"--{name}={format_option(value)}" for name, value in changes.items()]


def arguments_of(config: str | Path | Mapping[str, Any], changes: Mapping[str, object] | None) -> list[str]:
    """Return a configuration, a file or what one would hold, and what differs from it as arguments."""
    source = yaml.safe_dump(dict(config)) if isinstance(config, Mapping) else str(config)
    return [f"--config={source}", *format_options(changes or {})]


def options_in(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each option among arguments with its value, be it joined by ``=`` or the next argument."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if argument.startswith("--"):
            option, joined, value = argument.partition("=")
            yield option, value if joined else following
