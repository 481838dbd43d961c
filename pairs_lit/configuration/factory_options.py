"""Functions, and classes that take no shape, as backbones and whole networks, by the names that people give them.

Data sets are named with their arguments, too, ``--data.source torchvision.datasets.EMNIST --data.source.split digits``,
or as a mapping in a config file; here, this becomes a text, since jsonargparse would take the mapping for a class of
its own to build, and cannot put one in place of another.

jsonargparse by itself accepts only classes that take a shape. ``torchvision.models.resnet18`` with ``num_classes``
becomes :class:`pairs_lit.nn.built.Built` with that builder and that argument, on the command line as in config files.
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
"""The parts of the model that may be named by a builder, and what stands around it then."""

_SOURCE = "--data.source"
_ADAPTING = ("channels", "size")
_SPEC = {"class_path", "init_args", "dict_kwargs"}


def with_built(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config file says, with :class:`Built` around a part of the model if it is such a builder."""
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
    """Return a config with a data set and its arguments as a text."""
    data = _content(content["data"])
    source = data.get("source") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(source, Mapping):
        return content
    return {"data": {**data, "source": json.dumps(source, default=str)}}


def _content(value: object) -> object:
    """Return what the file says that a text names, else what the text says; the parser says what is wrong with it."""
    if not isinstance(value, str):
        return value
    try:
        file = user_path(value)
        text = file.read_text(encoding="utf-8-sig") if file.is_file() else value
    except (OSError, ValueError, PairsLitError):  # too long for a file's name, say
        return _yaml(value)
    return _yaml(text, value if text is not value else "a text of settings")


def _yaml(text: str, name: str = "a text of settings") -> object:
    try:
        return load(text, name)
    except (yaml.YAMLError, ValueError):
        return text


def _parts(named: object) -> tuple[str | None, dict[str, Any]]:
    """Return import path and arguments of a part of the model, as a config names it."""
    if isinstance(named, str):
        return named, {}
    given = named if isinstance(named, Mapping) else {}
    one, other = (given.get(key) or {} for key in ("init_args", "dict_kwargs"))
    path = given.get("class_path")
    if isinstance(path, str) and isinstance(one, Mapping) and isinstance(other, Mapping) and given.keys() <= _SPEC:
        return path, {**one, **other}
    return None, {}


def _spelt(path: str, arguments: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Name a builder through :class:`Built`; ``channels`` and ``size`` adapt the image, unless they are its own."""
    own, adapts = _parameters(path), _ROLES[role] is Built
    adapting = {name: value for name, value in arguments.items() if adapts and name in _ADAPTING and name not in own}
    others = {name: value for name, value in arguments.items() if name not in adapting}
    return {"class_path": _path_of(role), "init_args": {"builder": path, "arguments": others, **adapting}}


def _path_of(role: str) -> str:
    return f"{_ROLES[role].__module__}.{_ROLES[role].__qualname__}"


def _parameters(path: str) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(imported(path)).parameters
    except (TypeError, ValueError):  # a builder in C
        return {}


def needs_built(path: str, arguments: Mapping[str, Any], role: str) -> bool:
    """Say whether jsonargparse cannot build this part from this; refuse the path of one module for all rounds."""
    if not re.fullmatch(r"\w+(\.\w+)+", path):
        return False
    try:
        found = imported(path, role)
    except PairsLitError as error:
        if isinstance(error.__cause__, ImportError | AttributeError):
            return False  # jsonargparse says that there is no such thing
        raise
    if isinstance(found, nn.Module):
        raise PairsLitError(
            f"model.{role}: {path} is one module for all rounds: name the class or function that builds it."
        )
    return not inspect.isclass(found) or (issubclass(found, nn.Module) and not takes_shape(found, arguments))


def with_built_arguments(args: Sequence[str]) -> list[str]:
    """Return the command line's arguments, with :class:`Built` around a part of the model if it is such a builder.

    Raises:
        PairsLitError: There are arguments of a data set, but none is named, or a text sets something twice.
    """
    tokens = [_read_once(token) for token in join_options(args)]
    check_texts(tokens)
    for role in _ROLES:
        tokens = _with_built_part(tokens, role)
    return _with_source(tokens)


def _with_source(tokens: list[str]) -> list[str]:
    """Put the arguments of a data set beside its class path."""
    tokens = [_with_text_in_section(token) for token in tokens]
    nested = [token for token in tokens if token.startswith(f"{_SOURCE}.")]
    if not nested:
        return tokens
    path, arguments = find_named(tokens, {"--config": ("data", "source"), "--data": ("source",), _SOURCE: ()})
    if path is None:
        raise PairsLitError(f"{nested[0]}: name the dataset's class, too: {_SOURCE} torchvision.datasets.EMNIST.")
    arguments = dict(arguments)
    for token in nested:
        name, _, text = token.removeprefix(f"{_SOURCE}.").removeprefix("init_args.").partition("=")
        arguments[name] = _yaml(text)
    others = [token for token in tokens if token not in nested]
    return [*others, f"{_SOURCE}={json.dumps({'class_path': path, 'init_args': arguments}, default=str)}"]


def _with_text_in_section(token: str) -> str:
    """Return ``--data=FILE`` as it is, or as what the file says where that names a data set with its arguments."""
    if not token.startswith("--data="):
        return token
    given = {"data": token.removeprefix("--data=")}
    changed = _with_source_text(given)
    return token if changed is given else f"--data={json.dumps(changed['data'], default=str)}"


def _with_built_part(tokens: list[str], role: str) -> list[str]:
    option = _option(role)
    whole, nested = ([token for token in tokens if token.startswith(f"{option}{mark}")] for mark in "=.")
    given = {}
    for token in nested:
        name, _, text = token.removeprefix(f"{option}.").partition("=")
        if name == "help" or name.endswith("+"):
            return tokens
        given[name.removeprefix("init_args.").removeprefix("arguments.")] = text
    path, arguments = find_named(tokens, {"--config": ("model", role), "--model": (role,), option: ()})
    match arguments:
        case {"builder": str(builder), "arguments": Mapping() as own} if path == _path_of(role):  # a fit wrote it
            adapting = {name: arguments[name] for name in _ADAPTING if arguments.get(name) is not None}
            path, arguments = builder, {**own, **adapting}
    if path is None or not (whole or nested) or not needs_built(path, {**arguments, **given}, role):
        return tokens
    texts = {name for name, each in _parameters(path).items() if each.annotation in (str, "str")}
    arguments |= {name: text if name in texts else _yaml(text) for name, text in given.items()}
    others = [token for token in tokens if token not in (*whole, *nested)]
    return [*others, f"{option}={json.dumps(_spelt(path, arguments, role), default=str)}"]


def _option(role: str) -> str:
    return f"--model.{role}"


def path_of_part(part: object) -> str | None:
    """Return the import path of a part of the model in a parsed config, or None if there is no such part."""
    path, arguments = _parts(part.as_dict() if isinstance(part, Namespace) else part)
    return builder_of(path, arguments)


def builder_of(path: str | None, arguments: Mapping[str, Any]) -> str | None:
    """Return the import path of the builder in a :class:`Built`, or that of another class as it is."""
    is_built = path is not None and any(path == _path_of(role) for role in _ROLES)
    return str(arguments.get("builder")) if is_built else path


def find_named(tokens: Sequence[str], within: Mapping[str, Sequence[str]]) -> tuple[str | None, dict[str, Any]]:
    """Return import path and arguments of the part that files and options name last; within which keys of these."""
    path, arguments = None, dict[str, Any]()
    for token in tokens:
        option, _, value = token.partition("=")
        if option in within:
            found = _content(value)
            for section in within[option]:
                found = _content(found.get(section)) if isinstance(found, Mapping) else None
            newer, theirs = _parts(found)
            path, arguments = (newer, theirs) if newer is not None else (path, arguments)
    return path, arguments


def join_options(args: Sequence[str]) -> list[str]:
    """Write the options that matter here as one token each: ``--config X``, ``--model.backbone X`` and so on."""
    parts = (*(_option(role) for role in _ROLES), _SOURCE)
    found: list[str] = []
    waiting = False
    for token in args:
        if waiting and not token.startswith("--"):
            found[-1] += f"={token}"
            waiting = False
        else:
            if token.startswith("--") and token.endswith("=~"):
                # YAML takes ~ for null, and shells replace it by the home folder only as a word
                token = f"{token[:-1]}{Path.home()}"
            found.append("--config" if token == "-c" else token)
            within = found[-1].startswith(tuple(f"{part}." for part in parts)) and "=" not in token
            waiting = found[-1] in ("--config", "--model", "--data", *parts) or within
    for part in parts:
        found = [token.replace(f"{part}.class_path=", f"{part}=") for token in found]
    return found


def _read_once(token: str) -> str:
    """Write ``--config=NAME`` with the file that it means, and ``--config=-`` with the text of the standard input."""
    if not token.startswith("--config="):
        return token
    given = token.removeprefix("--config=")
    if given == "-" and sys.stdin is not None:
        return f"--config={sys.stdin.read()}"
    return f"--config={find_config(given)}"
