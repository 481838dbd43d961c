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

from pairs_lit.configuration.given_texts import check_duplicate_options
from pairs_lit.errors import PairsLitError
from pairs_lit.nn.built import Built, BuiltNetwork, has_shape_parameter, import_builder
from pairs_lit.runs.shipped_configs import find_config
from pairs_lit.runs.yaml_text import load_yaml
from pairs_lit.system.paths import expand_user_path

_WRAPPER_CLASSES: dict[str, type[nn.Module]] = {"backbone": Built, "network": BuiltNetwork}
"""The parts of the model that a factory may build, and the class that wraps the factory."""

_SOURCE_OPTION = "--data.source"
_ADAPTER_OPTIONS = ("channels", "size")
_SPEC_KEYS = {"class_path", "init_args", "dict_kwargs"}


def wrap_factories(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a config file, with each factory of a model part wrapped in :class:`Built`."""
    content = {**content, **_encode_source({"data": content["data"]})} if "data" in content else content
    model = _resolve_content(content.get("model"))
    if not isinstance(model, Mapping):
        return dict(content)
    changed = {}
    for role in _WRAPPER_CLASSES:
        path, arguments = _split_spec(_resolve_content(model.get(role)))
        if path is not None and needs_wrapper(path, arguments, role):
            changed[role] = _build_spec(path, arguments, role)
    return {**content, "model": {**model, **changed}} if changed else dict(content)


def _encode_source(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config in which a dataset with arguments is encoded as JSON text."""
    data = _resolve_content(content["data"])
    source = data.get("source") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(source, Mapping):
        return content
    return {"data": {**data, "source": json.dumps(source, default=str)}}


def _resolve_content(value: object) -> object:
    """Return the parsed content of a config value: that of the file which a text names, or of the text itself.

    Invalid content is returned as text, because the parser reports it later.
    """
    if not isinstance(value, str):
        return value
    try:
        file = expand_user_path(value)
        text = file.read_text(encoding="utf-8-sig") if file.is_file() else value
    except (OSError, ValueError, PairsLitError):  # for instance, the text is too long for a file name
        return _parse_yaml(value)
    return _parse_yaml(text, value if text is not value else "settings given as text")


def _parse_yaml(text: str, name: str = "settings given as text") -> object:
    """Parse YAML, or return the text itself if it is invalid."""
    try:
        return load_yaml(text, name)
    except (yaml.YAMLError, ValueError):
        return text


def _split_spec(part: object) -> tuple[str | None, dict[str, Any]]:
    """Return the import path and the arguments of a model part in a config, or None and no arguments if it has none."""
    if isinstance(part, str):
        return part, {}
    spec = part if isinstance(part, Mapping) else {}
    init_args, dict_kwargs = (spec.get(key) or {} for key in ("init_args", "dict_kwargs"))
    path = spec.get("class_path")
    has_arguments = isinstance(init_args, Mapping) and isinstance(dict_kwargs, Mapping)
    if isinstance(path, str) and has_arguments and spec.keys() <= _SPEC_KEYS:
        return path, {**init_args, **dict_kwargs}
    return None, {}


def _build_spec(path: str, arguments: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Build the config of the class that wraps a factory.

    ``channels`` and ``size`` are passed to :class:`Built`, which adapts the images, unless the factory has parameters
    of these names.
    """
    parameters, is_backbone = _get_parameters(path), _WRAPPER_CLASSES[role] is Built
    adapting = {
        name: value
        for name, value in arguments.items()
        if is_backbone and name in _ADAPTER_OPTIONS and name not in parameters
    }
    others = {name: value for name, value in arguments.items() if name not in adapting}
    return {"class_path": _get_wrapper_path(role), "init_args": {"builder": path, "arguments": others, **adapting}}


def _get_wrapper_path(role: str) -> str:
    """Return the import path of the class that wraps the factory of a model part."""
    return f"{_WRAPPER_CLASSES[role].__module__}.{_WRAPPER_CLASSES[role].__qualname__}"


def _get_parameters(path: str) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a factory, or an empty mapping if its signature is unknown."""
    try:
        return inspect.signature(import_builder(path)).parameters
    except (TypeError, ValueError):  # the factory is implemented in C
        return {}


def needs_wrapper(path: str, arguments: Mapping[str, Any], role: str) -> bool:
    """Return whether a model part must be wrapped because jsonargparse cannot build it.

    Raises:
        PairsLitError: The path names a module instead of a class or function, or cannot be imported.
    """
    if not re.fullmatch(r"\w+(\.\w+)+", path):
        return False
    try:
        factory = import_builder(path, role)
    except PairsLitError as error:
        if isinstance(error.__cause__, ImportError | AttributeError):
            return False  # jsonargparse reports that the path does not exist
        raise
    if isinstance(factory, nn.Module):
        raise PairsLitError(
            f"model.{role} must be a class or function that builds a module for each round, got the module {path}."
        )
    return not inspect.isclass(factory) or (
        issubclass(factory, nn.Module) and not has_shape_parameter(factory, arguments)
    )


def wrap_factory_options(args: Sequence[str]) -> list[str]:
    """Return the command-line arguments, with each factory of a model part wrapped in :class:`Built`.

    Raises:
        PairsLitError: Arguments of a dataset are set without its class, or a text sets an option twice.
    """
    tokens = [_resolve_config(token) for token in join_options(args)]
    check_duplicate_options(tokens)
    for role in _WRAPPER_CLASSES:
        tokens = _wrap_factory_option(tokens, role)
    return _merge_source_options(tokens)


def _merge_source_options(tokens: list[str]) -> list[str]:
    """Merge the options that set arguments of the dataset into the option that names its class."""
    tokens = [_encode_source_in_section(token) for token in tokens]
    nested = [token for token in tokens if token.startswith(f"{_SOURCE_OPTION}.")]
    if not nested:
        return tokens
    path, arguments = find_part(tokens, {"--config": ("data", "source"), "--data": ("source",), _SOURCE_OPTION: ()})
    if path is None:
        raise PairsLitError(
            f"{nested[0]} needs the class of the dataset. Add, for example, {_SOURCE_OPTION} "
            "torchvision.datasets.EMNIST."
        )
    arguments = dict(arguments)
    for token in nested:
        name, _, text = token.removeprefix(f"{_SOURCE_OPTION}.").removeprefix("init_args.").partition("=")
        arguments[name] = _parse_yaml(text)
    others = [token for token in tokens if token not in nested]
    return [*others, f"{_SOURCE_OPTION}={json.dumps({'class_path': path, 'init_args': arguments}, default=str)}"]


def _encode_source_in_section(token: str) -> str:
    """Replace ``--data=FILE`` by the content of the file if it names a dataset with arguments."""
    if not token.startswith("--data="):
        return token
    section = {"data": token.removeprefix("--data=")}
    encoded = _encode_source(section)
    return token if encoded is section else f"--data={json.dumps(encoded['data'], default=str)}"


def _wrap_factory_option(tokens: list[str], role: str) -> list[str]:
    """Replace the options of a model part by a single one that wraps its factory, if the part needs it."""
    option = _get_option_name(role)
    whole, nested = ([token for token in tokens if token.startswith(f"{option}{mark}")] for mark in "=.")
    option_texts = {}
    for token in nested:
        name, _, text = token.removeprefix(f"{option}.").partition("=")
        if name == "help" or name.endswith("+"):
            return tokens
        option_texts[name.removeprefix("init_args.").removeprefix("arguments.")] = text
    path, arguments = find_part(tokens, {"--config": ("model", role), "--model": (role,), option: ()})
    match arguments:
        # the config.yaml of an earlier fit contains the wrapped factory
        case {"builder": str(builder), "arguments": Mapping() as builder_arguments} if path == _get_wrapper_path(role):
            adapting = {name: arguments[name] for name in _ADAPTER_OPTIONS if arguments.get(name) is not None}
            path, arguments = builder, {**builder_arguments, **adapting}
    if path is None or not (whole or nested) or not needs_wrapper(path, {**arguments, **option_texts}, role):
        return tokens
    strings = {name for name, parameter in _get_parameters(path).items() if parameter.annotation in (str, "str")}
    arguments |= {name: text if name in strings else _parse_yaml(text) for name, text in option_texts.items()}
    others = [token for token in tokens if token not in (*whole, *nested)]
    return [*others, f"{option}={json.dumps(_build_spec(path, arguments, role), default=str)}"]


def _get_option_name(role: str) -> str:
    return f"--model.{role}"


def get_part_path(part: object) -> str | None:
    """Return the import path of a model part in a parsed config, or None if the config does not name one."""
    path, arguments = _split_spec(part.as_dict() if isinstance(part, Namespace) else part)
    return get_builder_path(path, arguments)


def is_wrapped(part: object) -> bool:
    """Return whether a model part in a parsed config is a factory wrapped by :func:`wrap_factory_options`."""
    path, _ = _split_spec(part.as_dict() if isinstance(part, Namespace) else part)
    return _is_wrapper(path)


def _is_wrapper(path: str | None) -> bool:
    return any(path == _get_wrapper_path(role) for role in _WRAPPER_CLASSES)


def get_builder_path(path: str | None, arguments: Mapping[str, Any]) -> str | None:
    """Return the import path of the factory if the path is that of a class which wraps one, else the path itself."""
    return str(arguments.get("builder")) if _is_wrapper(path) else path


def find_part(tokens: Sequence[str], within: Mapping[str, Sequence[str]]) -> tuple[str | None, dict[str, Any]]:
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
            part = _resolve_content(value)
            for section in within[option]:
                part = _resolve_content(part.get(section)) if isinstance(part, Mapping) else None
            new_path, new_arguments = _split_spec(part)
            path, arguments = (new_path, new_arguments) if new_path is not None else (path, arguments)
    return path, arguments


def join_options(args: Sequence[str]) -> list[str]:
    """Join each relevant option with its value: ``--config X`` becomes ``--config=X``, and so on."""
    parts = (*(_get_option_name(role) for role in _WRAPPER_CLASSES), _SOURCE_OPTION)
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


def _resolve_config(token: str) -> str:
    """Replace the name in ``--config=NAME`` by the path of its file, and ``--config=-`` by the content of stdin."""
    if not token.startswith("--config="):
        return token
    name = token.removeprefix("--config=")
    if name == "-" and sys.stdin is not None:
        return f"--config={sys.stdin.read()}"
    return f"--config={find_config(name)}"
