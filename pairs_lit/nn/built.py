"""Backbones and networks from builders: functions such as torchvision's ``resnet18``, or classes that take no shape.

On the command line and in config files, a builder is named in the same way as any backbone or network (see
:mod:`pairs_lit.configuration.factory_options`).
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.nn.backbones import Shape, TorchModule
from pairs_lit.seeds import preserve_rng_state
from pairs_lit.system.tracebacks import format_reason, locate_error
from pairs_lit.system.user_modules import import_path

PROBE_SIZE = 2
"""Number of zero inputs on which a module is tried; a single input would have no batch statistics."""

_SHAPE_PARAMETERS = ("shape", "image_shape", "input_shape", "in_shape")
_COLOUR_CHANNELS = 3

Argument = str | bool | int | float | None | list[Any] | dict[str, Any]
"""Values that a config can pass to a builder; ``str`` comes first so that no text is parsed as another type."""


class Built(nn.Module):
    """Backbone that a function or class builds: (N, C, H, W) → (N, F).

    Args:
        shape: Shape of the image. It is the builder's first argument if the builder takes a shape.
        builder: Import path of the function or class, such as ``torchvision.models.resnet18``.
        arguments: Further arguments of the builder, by name. Where the builder accepts a class or function, its
            import path can be given (``norm_layer: torch.nn.InstanceNorm2d``).
        channels: Number of channels to which a one-channel image is repeated. By default (null), it is repeated to 3
            channels only if the module needs them.
        size: Height and width to which the image is resized bilinearly.

    Raises:
        PairsLitError: The builder does not exist, it does not return a module, or a size is below 1.
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
        self.module = _adapt_module(_build_module(builder, shape, arguments or {}, "backbone"), shape, channels, size)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embedding: (N, C, H, W) → (N, F)."""
        embedding: Tensor = self.module(images)
        return embedding


class BuiltNetwork(nn.Module):
    """Whole pair network that a function or class builds: (N, 2, H, W) → output.

    Args:
        shape: Shape of a pair. It is the builder's first argument if the builder takes a shape.
        builder: Import path of the function or class, such as ``my_nets.Net``.
        arguments: Further arguments of the builder, by name, as in :class:`Built`.

    Raises:
        PairsLitError: The builder does not exist, or it does not return a module.
    """

    def __init__(self, shape: Shape, *, builder: str, arguments: Mapping[str, Argument] | None = None) -> None:
        super().__init__()
        self.module = _build_module(builder, shape, arguments or {}, "network")

    def forward(self, pairs: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the output, or the output and the digit logits."""
        output: Tensor | tuple[Tensor, Tensor] = self.module(pairs)
        return output


def _build_module(builder: str, shape: Shape, arguments: Mapping[str, Argument], role: str) -> nn.Module:
    """Call a builder with the shape, if it takes one, and with the arguments."""
    build = import_builder(builder, role)
    keywords = {name: _resolve_argument(build, name, value) for name, value in arguments.items()}
    module = build(shape, **keywords) if has_shape_parameter(build, keywords) else build(**keywords)
    if not isinstance(module, nn.Module):
        raise PairsLitError(f"{builder} must return a torch module, got {type(module).__name__}.")
    return module


def _resolve_argument(builder: Callable[..., Any], name: str, value: Argument) -> Any:  # noqa: ANN401 - a path may name anything
    """Return the class or function of an import path if the builder accepts one, or else the value itself."""
    if not isinstance(value, str) or "." not in value or not _can_take_callable(builder, name):
        return value
    try:
        return import_builder(value)
    except PairsLitError:  # the text is no import path
        return value


def _get_parameters(builder: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(builder).parameters
    except ValueError:  # a builder written in C has no signature
        return {}


def _can_take_callable(builder: Callable[..., Any], name: str) -> bool:
    """Return whether a parameter of the builder accepts a class or function, according to its annotation."""
    parameters = _get_parameters(builder)
    keywords = [parameter for parameter in parameters.values() if parameter.kind is parameter.VAR_KEYWORD]
    parameter = parameters.get(name, keywords[0] if keywords else None)
    if parameter is None or parameter.annotation in (parameter.empty, Any):
        return parameter is not None
    return any(kind in str(parameter.annotation).lower() for kind in ("callable", "type["))


def _adapt_module(module: nn.Module, shape: Shape, channels: int | None, size: int | None) -> nn.Module:
    """Return the module itself if it maps the image to an embedding, or else with channels repeated or resized."""
    if channels is None and size is None and _find_mismatch(module, shape) is None:
        return module
    plain = TorchModule(shape, module=lambda: module, channels=channels, size=size)
    if channels is not None or shape[0] != 1:
        return plain
    objection = _find_mismatch(plain, shape)
    colour = TorchModule(shape, module=lambda: module, channels=_COLOUR_CHANNELS, size=size)
    needs_colour = objection is not None and ("channel" in objection or _find_mismatch(colour, shape) is None)
    return colour if needs_colour else plain


def _find_mismatch(module: nn.Module, shape: Shape) -> str | None:
    """Return why a module does not map the image to an embedding, or None if it does."""
    try:
        output = run_on_zeros(module, shape)
    except Exception as error:  # a user's module may raise anything for an input that it cannot take
        return str(error)
    return None if isinstance(output, Tensor) and output.dim() == 2 else "the output is not (N, F)"


def run_on_zeros(module: nn.Module, shape: Sequence[int]) -> object:
    """Return the output of a module for zeros (N, *shape) in evaluation mode, then restore its modes."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.no_grad(), preserve_rng_state():
            return module(torch.zeros(PROBE_SIZE, *shape))
    finally:
        for part, training in modes:
            part.training = training


def import_builder(path: str, role: str = "backbone") -> Callable[..., Any]:
    """Import a builder.

    Args:
        path: Import path of the function or class.
        role: ``backbone``, ``head`` or ``network``, for error messages.

    Raises:
        PairsLitError: The import fails, or the object cannot be called.
    """
    try:
        builder = import_path(path)
    except Exception as error:  # a user's file may raise anything when it is imported
        raise PairsLitError(
            f"model.{role}: cannot import {path}: {format_reason(error)} ({locate_error(error)})."
        ) from error
    if not callable(builder):
        raise PairsLitError(f"model.{role} must be a function or class that builds a module, got {path}.")
    checked: Callable[..., Any] = builder
    return checked


def has_shape_parameter(builder: Callable[..., Any], arguments: Mapping[str, Any]) -> bool:
    """Return whether a builder's first parameter is the image's shape.

    It is if it has no default, or if its name or annotation is that of a shape, unless ``arguments`` sets it.
    """
    first = next(iter(_get_parameters(builder).values()), None)
    if first is None or first.kind in (first.VAR_POSITIONAL, first.VAR_KEYWORD, first.KEYWORD_ONLY):
        return False
    annotation = str(first.annotation)
    looks_like_shape = first.name in _SHAPE_PARAMETERS or "tuple" in annotation.lower() or "Shape" in annotation
    return first.name not in arguments and (looks_like_shape or first.default is first.empty)
