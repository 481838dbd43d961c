"""Options as text, under dotted names."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any


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
