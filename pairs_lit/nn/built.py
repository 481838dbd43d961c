"""Networks named by their builder: a function such as torchvision's ``resnet18``, or a class that takes no shape.

On the command line and in config files such a builder is named as any backbone or network is: see
:mod:`pairs_lit.configuration.factory_options`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.nn.backbones import Shape, TorchModule
from pairs_lit.seeds import generators_kept
from pairs_lit.system.tracebacks import place_of, reason_of
from pairs_lit.system.user_modules import import_path

TRIED = 2
"""On how many inputs a module is tried; a single one has no statistics."""

_SHAPES = ("shape", "image_shape", "input_shape", "in_shape")
_COLOURS = 3

Argument = str | bool | int | float | None | list[Any] | dict[str, Any]
"""The values that a config can pass to a builder; texts come first, so that none is read as something else."""


class Built(nn.Module):
    """The module that a function or class builds, as a backbone: (N, C, H, W) → (N, F).

    Args:
        shape: The image's; the builder gets it first where it takes a shape.
        builder: The import path of the function or class, ``torchvision.models.resnet18`` for instance.
        arguments: Its further arguments, by name; the import path of a class or function stands for it where the
            builder may take one (``norm_layer: torch.nn.InstanceNorm2d``).
        channels: Repeat a one-channel image to so many channels; null: to 3 where the module takes no fewer.
        size: Resize the image bilinearly to this height and width.

    Raises:
        PairsLitError: There is no such builder, it does not return a module, or a size is below 1.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        builder: str,
        arguments: Mapping[str, Argument] | None = None,
        channels: int | None = None,
        size: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in {"channels": channels, "size": size}.items():
            if value is not None:
                check_positive(f"{builder}: {name}", value)
        self.module = _adapted(_made(builder, shape, arguments or {}, "backbone"), shape, channels, size)

    def forward(self, images: Tensor) -> Tensor:
        """Return the code: (N, C, H, W) → (N, F)."""
        code: Tensor = self.module(images)
        return code


class BuiltNetwork(nn.Module):
    """The module that a function or class builds, as a whole pair network: (N, 2, H, W) → the answer.

    Args:
        shape: That of a pair; the builder gets it first where it takes a shape.
        builder: The import path of the function or class, ``my_nets.Net`` for instance.
        arguments: Its further arguments, by name, as those of :class:`Built`.

    Raises:
        PairsLitError: There is no such builder, or it does not return a module.
    """

    def __init__(self, shape: Shape, *, builder: str, arguments: Mapping[str, Argument] | None = None) -> None:
        super().__init__()
        self.module = _made(builder, shape, arguments or {}, "network")

    def forward(self, pairs: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the answer, or the answer and the digit logits."""
        output: Tensor | tuple[Tensor, Tensor] = self.module(pairs)
        return output


def _made(builder: str, shape: Shape, arguments: Mapping[str, Argument], role: str) -> nn.Module:
    make = imported(builder, role)
    named = {name: _meant(make, name, value) for name, value in arguments.items()}
    module = make(shape, **named) if takes_shape(make, named) else make(**named)
    if not isinstance(module, nn.Module):
        raise PairsLitError(f"{builder} returned a {type(module).__name__}, which is not a torch module.")
    return module


def _meant(builder: Callable[..., Any], name: str, value: Argument) -> Any:  # noqa: ANN401 - anything has a name
    """Return the class or function that a text names, where the builder may take one."""
    if not isinstance(value, str) or "." not in value or not _takes_callable(builder, name):
        return value
    try:
        return imported(value)
    except PairsLitError:  # a text of another kind
        return value


def _parameters(builder: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(builder).parameters
    except ValueError:  # a builder in C
        return {}


def _takes_callable(builder: Callable[..., Any], name: str) -> bool:
    parameters = _parameters(builder)
    others = next((each for each in parameters.values() if each.kind is each.VAR_KEYWORD), None)
    parameter = parameters.get(name, others)
    if parameter is None or parameter.annotation in (parameter.empty, Any):
        return parameter is not None
    return any(kind in str(parameter.annotation).lower() for kind in ("callable", "type["))


def _adapted(module: nn.Module, shape: Shape, channels: int | None, size: int | None) -> nn.Module:
    """Return the module as it is if it maps the image to a code, else with images repeated or resized."""
    if channels is None and size is None and _objection(module, shape) is None:
        return module
    plain = TorchModule(shape, module=lambda: module, channels=channels, size=size)
    if channels is not None or shape[0] != 1:
        return plain
    objection = _objection(plain, shape)
    colour = TorchModule(shape, module=lambda: module, channels=_COLOURS, size=size)
    needs_colour = objection is not None and ("channel" in objection or _objection(colour, shape) is None)
    return colour if needs_colour else plain


def _objection(module: nn.Module, shape: Shape) -> str | None:
    """Say why a module gives no code for an image; None: it does."""
    try:
        code = tried(module, shape)
    except Exception as error:  # whatever a module of the user's raises on what it does not take
        return str(error)
    return None if isinstance(code, Tensor) and code.dim() == 2 else "no code"


def tried(module: nn.Module, shape: Sequence[int]) -> object:
    """Return what a module gives for zeros (N, *shape) in evaluation mode, and leave it as it was."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.no_grad(), generators_kept():
            return module(torch.zeros(TRIED, *shape))
    finally:
        for part, training in modes:
            part.training = training


def imported(path: str, role: str = "backbone") -> Callable[..., Any]:
    """Import what an import path names, for this part of the model.

    Raises:
        PairsLitError: There is no such thing, or it cannot be called.
    """
    try:
        found = import_path(path)
    except Exception as error:  # a file of the user's may raise anything when it is imported
        raise PairsLitError(f"model.{role}: {path}: {reason_of(error)} ({place_of(error)}).") from error
    if not callable(found):
        raise PairsLitError(f"model.{role}: {path} is not a function or class that builds a module.")
    made: Callable[..., Any] = found
    return made


def takes_shape(builder: Callable[..., Any], arguments: Mapping[str, Any]) -> bool:
    """Say whether a builder's first argument is the image's shape.

    It is, unless it is among the named arguments, if it has no default, or if its name or its annotation says so.
    """
    first = next(iter(_parameters(builder).values()), None)
    if first is None or first.kind in (first.VAR_POSITIONAL, first.VAR_KEYWORD, first.KEYWORD_ONLY):
        return False
    says_so = first.name in _SHAPES or "tuple" in str(first.annotation).lower() or "Shape" in str(first.annotation)
    return first.name not in arguments and (says_so or first.default is first.empty)
