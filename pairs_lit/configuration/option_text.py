"""Conversion between option values, dotted names and command-line arguments."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import yaml


def flatten_config(config: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Return a nested configuration as a flat mapping by dotted name.

    Lists and null become text. The names of config files are left out.
    """
    flat: dict[str, str | int | float | bool] = {}
    for name, value in config.items():
        if name in ("config", "__path__"):
            continue
        if isinstance(value, Mapping):
            flat |= flatten_config(value, f"{prefix}{name}.")
        elif isinstance(value, int | float | bool):
            flat[f"{prefix}{name}"] = value
        else:  # a file name may contain bytes that are not valid text
            flat[f"{prefix}{name}"] = str(value).encode("utf-8", "replace").decode()
    return flat


def format_option(value: object) -> str:
    """Return a value as the text that the command line accepts."""
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, type | FunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    return json.dumps(value, default=format_option)


def format_options(changes: Mapping[str, object]) -> list[str]:
    """Return options by dotted name as command-line arguments."""
    return [f"--{name}={format_option(value)}" for name, value in changes.items()]


def build_arguments(config: str | Path | Mapping[str, Any], changes: Mapping[str, object] | None) -> list[str]:
    """Return a configuration (a file or its content) and changes to it as command-line arguments."""
    source = yaml.safe_dump(dict(config)) if isinstance(config, Mapping) else str(config)
    return [f"--config={source}", *format_options(changes or {})]


def iter_options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each option with its value, which follows either after ``=`` or as the next argument."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if argument.startswith("--"):
            option, equals_sign, value = argument.partition("=")
            yield option, value if equals_sign else following
