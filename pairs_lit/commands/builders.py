"""Functions, and classes that take no shape, as backbones; jsonargparse by itself accepts only classes that take one.

``torchvision.models.resnet18`` with ``num_classes`` becomes :class:`pairs_lit.nn.built.Built` with that builder and
that argument, on the command line as in config files.
"""

import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from pairs_lit.environment import user_path
from pairs_lit.errors import PairsLitError
from pairs_lit.nn.built import Built, imported, takes_shape
from pairs_lit.runs.configs import find_config

_OPTION = "--model.backbone"
_FILES = ("--config", "--model")
_BUILT = f"{Built.__module__}.{Built.__qualname__}"
_ADAPTING = ("channels", "size")
_ENDINGS = (".yaml", ".yml", ".json")
_SPEC = {"class_path", "init_args", "dict_kwargs"}


class _Loader(yaml.SafeLoader):
    """Reads ``1e-3`` as a number, as jsonargparse does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
)


def read_yaml(text: str) -> object:
    """Read YAML or JSON as jsonargparse does.

    Raises:
        yaml.YAMLError: It is neither.
    """
    return yaml.load(text, _Loader)  # a safe loader


def with_built(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config's content, with :class:`Built` around the backbone if it is such a builder.

    Args:
        content: What a config file says.
    """
    model = _loaded(content.get("model"))
    if not isinstance(model, Mapping) or "backbone" not in model:
        return dict(content)
    path, arguments = _parts(_loaded(model["backbone"]))
    if path is None or not needs_built(path, arguments):
        return dict(content)
    return {**content, "model": {**model, "backbone": _spelt(path, arguments)}}


def _loaded(value: object) -> object:
    """Return the content of a section's own file, if the section names one."""
    if isinstance(value, str) and value.endswith(_ENDINGS) and _is_file(value):
        return read_yaml(user_path(value).read_text(encoding="utf-8-sig"))
    return value


def _parts(backbone: object) -> tuple[str | None, dict[str, Any]]:
    """Return import path and arguments of a backbone, as a config names it."""
    if isinstance(backbone, str):
        return backbone, {}
    if not isinstance(backbone, Mapping) or not isinstance(backbone.get("class_path"), str):
        return None, {}
    named = [backbone.get(key) or {} for key in ("init_args", "dict_kwargs")]
    if not backbone.keys() <= _SPEC or not all(isinstance(each, Mapping) for each in named):
        return None, {}  # jsonargparse says what is wrong with it
    return backbone["class_path"], {**named[0], **named[1]}


def _spelt(path: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Name a builder through :class:`Built`; ``channels`` and ``size`` adapt the image, unless they are its own."""
    own = _parameters(path)
    adapting = {name: value for name, value in arguments.items() if name in _ADAPTING and name not in own}
    others = {name: value for name, value in arguments.items() if name not in adapting}
    return {"class_path": _BUILT, "init_args": {"builder": path, "arguments": others, **adapting}}


def _unspelt(init_args: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Undo :func:`_spelt`."""
    match init_args:
        case {"builder": str(path), "arguments": Mapping() as arguments}:
            adapting = {name: init_args[name] for name in _ADAPTING if init_args.get(name) is not None}
            return path, {**arguments, **adapting}
    return None, {}


def _parameters(path: str) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(imported(path)).parameters
    except (TypeError, ValueError):  # a builder in C
        return {}


def needs_built(path: str, arguments: Mapping[str, Any]) -> bool:
    """Say whether jsonargparse cannot build a backbone from this import path and these arguments.

    Raises:
        PairsLitError: It names a module instead of something that builds one for each round.
    """
    if "." not in path or "/" in path or path.endswith(_ENDINGS):
        return False
    try:
        found = imported(path)
    except PairsLitError as error:
        if isinstance(error.__cause__, ImportError | AttributeError):
            return False  # jsonargparse says that there is no such thing
        raise
    if isinstance(found, nn.Module):
        raise PairsLitError(
            f"model.backbone: {path} is one module for all rounds: name the class or function that builds it."
        )
    if inspect.isclass(found):
        return issubclass(found, nn.Module) and not takes_shape(found, arguments)
    return True


def with_built_arguments(args: Sequence[str]) -> list[str]:
    """Return the command line's arguments, with :class:`Built` around the backbone if it is such a builder.

    Raises:
        PairsLitError: There is no such config.
    """
    tokens = [_text_of_input(_found(token)) for token in _joined(args)]
    nested = [token.removeprefix(f"{_OPTION}.").partition("=") for token in tokens if token.startswith(f"{_OPTION}.")]
    if any(name == "help" or name.endswith("+") for name, _, _ in nested):
        return tokens
    path, arguments = _named(tokens)
    if path is None or not (nested or any(token.startswith(f"{_OPTION}=") for token in tokens)):
        return tokens
    if path == _BUILT:  # in a config that a fit has written
        path, arguments = _unspelt(arguments)
    given = {name.removeprefix("init_args.").removeprefix("arguments."): value for name, _, value in nested}
    if path is None or not needs_built(path, {**arguments, **given}):
        return tokens
    arguments |= {name: _value(path, name, text) for name, text in given.items()}
    rest = [token for token in tokens if not token.startswith((f"{_OPTION}=", f"{_OPTION}."))]
    return [*rest, f"{_OPTION}={json.dumps(_spelt(path, arguments), default=str)}"]


def _named(tokens: Sequence[str]) -> tuple[str | None, dict[str, Any]]:
    """Return import path and arguments of the backbone that files and options name last."""
    path, arguments = None, dict[str, Any]()
    for token in tokens:
        option, _, value = token.partition("=")
        if option == _OPTION:
            found: object = _yaml(value)
        elif option in _FILES:
            content = _content(value)
            model = content.get("model") if option == "--config" and isinstance(content, Mapping) else content
            model = _loaded(model)
            found = model.get("backbone") if isinstance(model, Mapping) else None
        else:
            continue
        newer, theirs = _parts(_loaded(found))
        path, arguments = (newer, theirs) if newer is not None else (path, arguments)
    return path, arguments


def _content(config: str) -> object:
    """Return the content of a file, or of a text given in its place."""
    try:
        return read_yaml(user_path(config).read_text(encoding="utf-8-sig") if _is_file(config) else config)
    except (yaml.YAMLError, OSError, ValueError):
        return None  # the parser will say what is wrong with it


def _is_file(text: str) -> bool:
    try:
        return user_path(text).is_file()
    except (OSError, ValueError, PairsLitError):  # too long for a name, say
        return False


def _yaml(text: str) -> object:
    try:
        return read_yaml(text)
    except yaml.YAMLError:
        return text


def _value(path: str, name: str, text: str) -> object:
    """Return the value of an argument; it stays a text if the builder annotates it as one."""
    parameter = _parameters(path).get(name)
    return text if parameter is not None and parameter.annotation in (str, "str") else _yaml(text)


def _joined(args: Sequence[str]) -> list[str]:
    """Write the options that matter here as one token each: ``--config X``, ``--model.backbone X`` and so on."""
    found: list[str] = []
    waiting = False
    for token in args:
        if waiting and not token.startswith("--"):
            found[-1] += f"={token}"
            waiting = False
            continue
        found.append("--config" if token == "-c" else token)
        waiting = "=" not in token and (token in ("-c", *_FILES, _OPTION) or token.startswith(f"{_OPTION}."))
    return [token.replace(f"{_OPTION}.class_path=", f"{_OPTION}=") for token in found]


def _found(token: str) -> str:
    """Put the file that ``--config=NAME`` means in the name's place."""
    return f"--config={find_config(token.removeprefix('--config='))}" if token.startswith("--config=") else token


def _text_of_input(token: str) -> str:
    """Put the standard input's text in its place: it can be read only once."""
    return f"--config={sys.stdin.read()}" if token == "--config=-" and sys.stdin is not None else token


def home_spelt(token: str) -> str:
    """Write ``--option=~`` with the home folder: YAML takes ``~`` for null, and shells replace it only as a word."""
    return f"{token[:-1]}{Path.home()}" if token.startswith("--") and token.endswith("=~") else token
