"""Options that name a factory (any function or class) for the backbone, the whole network or the dataset.

jsonargparse itself accepts only classes whose constructor takes the image shape. This module wraps all other factories:
``torchvision.models.resnet18`` with ``num_classes`` becomes :class:`pairs_lit.nn.built.Built`, which calls the function
with this argument, both on the command line and in config files.

A dataset may have arguments as well, as in
``--data.source torchvision.datasets.EMNIST --data.source.split digits`` or as a mapping in a config file. They are
encoded as JSON text, because jsonargparse would otherwise build the class itself, and could not replace the class of a
config file by that of an option.
"""

import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from torch import nn

from pairs_lit.configuration.given_texts import check_texts
from pairs_lit.errors import PairsLitError
from pairs_lit.nn.built import Built, BuiltNetwork, imported, takes_shape
from pairs_lit.runs.shipped_configs import find_config
from pairs_lit.runs.yaml_text import load
from pairs_lit.system.paths import user_path

_ROLES: dict[str, type[nn.Module]] = {"backbone": Built, "network": BuiltNetwork}
"""The parts of the model that a factory may build, and the class that wraps the factory."""

_SOURCE = "--data.source"
_ADAPTING = ("channels", "size")
_SPEC = {"class_path", "init_args", "dict_kwargs"}


def with_built(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a config file, with each factory of a model part wrapped in :class:`Built`."""
    content = {**content, **_with_source_text({"data": content["data"]})} if "data" in content else content
    model = _content(content.get("model"))
    if not isinstance(model, Mapping):
        return dict(content)
    changed = {}
    for role in _ROLES:
        path, arguments = _parts(_content(model.get(role)))
        if path is not None and needs_built(path, arguments, role):
            changed[role] = _spelt(path, arguments, role)
    return {**content, "model": {**model, **changed}} if changed else dict(content)


def _with_source_text(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config in which a dataset with arguments is encoded as JSON text."""
    data = _content(content["data"])
    source = data.get("source") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(source, Mapping):
        return content
    return {"data": {**data, "source": json.dumps(source, default=str)}}


def _content(value: object) -> object:
    """Return the parsed content of a config value: that of the file which a text names, or of the text itself.

    Invalid content is returned as text, because the parser reports it later.
    """
    if not isinstance(value, str):
        return value
    try:
        file = user_path(value)
        text = file.read_text(encoding="utf-8-sig") if file.is_file() else value
    except (OSError, ValueError, PairsLitError):  # for instance, the text is too long for a file name
        return _yaml(value)
    return _yaml(text, value if text is not value else "settings given as text")


def _yaml(text: str, name: str = "settings given as text") -> object:
    """Parse YAML, or return the text itself if it is invalid."""
    try:
        return load(text, name)
    except (yaml.YAMLError, ValueError):
        return text


def _parts(part: object) -> tuple[str | None, dict[str, Any]]:
    """Return the import path and the arguments of a model part in a config, or None and no arguments if it has none."""
    if isinstance(part, str):
        return part, {}
    spec = part if isinstance(part, Mapping) else {}
    init_args, dict_kwargs = (spec.get(key) or {} for key in ("init_args", "dict_kwargs"))
    path = spec.get("class_path")
    has_arguments = isinstance(init_args, Mapping) and isinstance(dict_kwargs, Mapping)
    if isinstance(path, str) and has_arguments and spec.keys() <= _SPEC:
        return path, {**init_args, **dict_kwargs}
    return None, {}


def _spelt(path: str, arguments: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Build the config of the class that wraps a factory.

    ``channels`` and ``size`` are passed to :class:`Built`, which adapts the images, unless the factory has parameters
    of these names.
    """
    parameters, is_backbone = _parameters(path), _ROLES[role] is Built
    adapting = {
        name: value for name, value in arguments.items() if is_backbone and name in _ADAPTING and name not in parameters
    }
    others = {name: value for name, value in arguments.items() if name not in adapting}
    return {"class_path": _path_of(role), "init_args": {"builder": path, "arguments": others, **adapting}}


def _path_of(role: str) -> str:
    """Return the import path of the class that wraps the factory of a model part."""
    return f"{_ROLES[role].__module__}.{_ROLES[role].__qualname__}"


def _parameters(path: str) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a factory, or an empty mapping if its signature is unknown."""
    try:
        return inspect.signature(imported(path)).parameters
    except (TypeError, ValueError):  # the factory is implemented in C
        return {}


def needs_built(path: str, arguments: Mapping[str, Any], role: str) -> bool:
    """Return whether a model part must be wrapped because jsonargparse cannot build it.

    Raises:
        PairsLitError: The path names a module instead of a class or function, or cannot be imported.
    """
    if not re.fullmatch(r"\w+(\.\w+)+", path):
        return False
    try:
        factory = imported(path, role)
    except PairsLitError as error:
        if isinstance(error.__cause__, ImportError | AttributeError):
            return False  # jsonargparse reports that the path does not exist
        raise
    if isinstance(factory, nn.Module):
        raise PairsLitError(
            f"model.{role} must be a class or function that builds a module for each round, got the module {path}."
        )
    return not inspect.isclass(factory) or (issubclass(factory, nn.Module) and not takes_shape(factory, arguments))


def with_built_arguments(args: Sequence[str]) -> list[str]:
    """Return the command-line arguments, with each factory of a model part wrapped in :class:`Built`.

    Raises:
        PairsLitError: Arguments of a dataset are set without its class, or a text sets an option twice.
    """
    tokens = [_read_once(token) for token in join_options(args)]
    check_texts(tokens)
    for role in _ROLES:
        tokens = _with_built_part(tokens, role)
    return _with_source(tokens)


def _with_source(tokens: list[str]) -> list[str]:
    """Merge the options that set arguments of the dataset into the option that names its class."""
    tokens = [_with_text_in_section(token) for token in tokens]
    nested = [token for token in tokens if token.startswith(f"{_SOURCE}.")]
    if not nested:
        return tokens
    path, arguments = find_named(tokens, {"--config": ("data", "source"), "--data": ("source",), _SOURCE: ()})
    if path is None:
        raise PairsLitError(
            f"{nested[0]} needs the class of the dataset. Add, for example, {_SOURCE} torchvision.datasets.EMNIST."
        )
    arguments = dict(arguments)
    for token in nested:
        name, _, text = token.removeprefix(f"{_SOURCE}.").removeprefix("init_args.").partition("=")
        arguments[name] = _yaml(text)
    others = [token for token in tokens if token not in nested]
    return [*others, f"{_SOURCE}={json.dumps({'class_path': path, 'init_args': arguments}, default=str)}"]


def _with_text_in_section(token: str) -> str:
    """Replace ``--data=FILE`` by the content of the file if it names a dataset with arguments."""
    if not token.startswith("--data="):
        return token
    section = {"data": token.removeprefix("--data=")}
    encoded = _with_source_text(section)
    return token if encoded is section else f"--data={json.dumps(encoded['data'], default=str)}"


def _with_built_part(tokens: list[str], role: str) -> list[str]:
    """Replace the options of a model part by a single one that wraps its factory, if the part needs it."""
    option = _option(role)
    whole, nested = ([token for token in tokens if token.startswith(f"{option}{mark}")] for mark in "=.")
    option_texts = {}
    for token in nested:
        name, _, text = token.removeprefix(f"{option}.").partition("=")
        if name == "help" or name.endswith("+"):
            return tokens
        option_texts[name.removeprefix("init_args.").removeprefix("arguments.")] = text
    path, arguments = find_named(tokens, {"--config": ("model", role), "--model": (role,), option: ()})
    match arguments:
        # the config.yaml of an earlier fit contains the wrapped factory
        case {"builder": str(builder), "arguments": Mapping() as builder_arguments} if path == _path_of(role):
            adapting = {name: arguments[name] for name in _ADAPTING if arguments.get(name) is not None}
            path, arguments = builder, {**builder_arguments, **adapting}
    if path is None or not (whole or nested) or not needs_built(path, {**arguments, **option_texts}, role):
        return tokens
    strings = {name for name, parameter in _parameters(path).items() if parameter.annotation in (str, "str")}
    arguments |= {name: text if name in strings else _yaml(text) for name, text in option_texts.items()}
    others = [token for token in tokens if token not in (*whole, *nested)]
    return [*others, f"{option}={json.dumps(_spelt(path, arguments, role), default=str)}"]


def _option(role: str) -> str:
    return f"--model.{role}"


def path_of_part(part: object) -> str | None:
    """Return the import path of a model part in a parsed config, or None if the config does not name one."""
    path, arguments = _parts(part.as_dict() if isinstance(part, Namespace) else part)
    return builder_of(path, arguments)


def builder_of(path: str | None, arguments: Mapping[str, Any]) -> str | None:
    """Return the import path of the factory if the path is that of a class which wraps one, else the path itself."""
    is_built = path is not None and any(path == _path_of(role) for role in _ROLES)
    return str(arguments.get("builder")) if is_built else path


def find_named(tokens: Sequence[str], within: Mapping[str, Sequence[str]]) -> tuple[str | None, dict[str, Any]]:
    """Find the import path and the arguments of the model part or dataset that files and options name last.

    Args:
        tokens: The options, each as one token ``--option=value``.
        within: For each option to search, the keys that lead to the part in its value.

    Returns:
        The import path, or None if the part is not named, and the arguments.
    """
    path, arguments = None, dict[str, Any]()
    for token in tokens:
        option, _, value = token.partition("=")
        if option in within:
            part = _content(value)
            for section in within[option]:
                part = _content(part.get(section)) if isinstance(part, Mapping) else None
            new_path, new_arguments = _parts(part)
            path, arguments = (new_path, new_arguments) if new_path is not None else (path, arguments)
    return path, arguments


def join_options(args: Sequence[str]) -> list[str]:
    """Join each relevant option with its value: ``--config X`` becomes ``--config=X``, and so on."""
    parts = (*(_option(role) for role in _ROLES), _SOURCE)
    tokens: list[str] = []
    needs_value = False
    for arg in args:
        if needs_value and not arg.startswith("--"):
            tokens[-1] += f"={arg}"
            needs_value = False
        else:
            if arg.startswith("--") and arg.endswith("=~"):
                # YAML reads ~ as null, and a shell replaces it by the home folder only as a separate word
                arg = f"{arg[:-1]}{Path.home()}"
            tokens.append("--config" if arg == "-c" else arg)
            is_nested = tokens[-1].startswith(tuple(f"{part}." for part in parts)) and "=" not in arg
            needs_value = tokens[-1] in ("--config", "--model", "--data", *parts) or is_nested
    for part in parts:
        tokens = [token.replace(f"{part}.class_path=", f"{part}=") for token in tokens]
    return tokens


def _read_once(token: str) -> str:
    """Replace the name in ``--config=NAME`` by the path of its file, and ``--config=-`` by the content of stdin."""
    if not token.startswith("--config="):
        return token
    name = token.removeprefix("--config=")
    if name == "-" and sys.stdin is not None:
        return f"--config={sys.stdin.read()}"
    return f"--config={find_config(name)}"
