"""Fingerprint of what a plain module computes: the calls of torch that its ``forward`` makes, as a digest."""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pairs_lit.seeds import generator, seeded
from pairs_lit.stacking.recording.traced_graph import name_of
from pairs_lit.stacking.recording.tracing import ASKED

_INPUTS = 3


def digest_of_calls(modules: Sequence[tuple[nn.Module, Sequence[int]]], *, training: bool) -> str:
    """Return a digest of the calls of torch that modules make, with their constants and the shapes of their tensors.

    Comments, names of variables and the order of definitions do not change it; another release of torch may.

    Args:
        modules: Plain modules, each with the shape of one of its inputs, without N. They are run, and so may change.
        training: Whether to run them in training mode.
    """
    lines = [line for module, shape in modules for line in _calls(module.train(training), shape)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _calls(module: nn.Module, shape: Sequence[int]) -> list[str]:
    """Return one line for each trained parameter and each call, and one for an error that ends them."""
    log = _Log()
    log.lines += [f"trains {name}" for name, value in module.named_parameters() if value.requires_grad]
    inputs = torch.rand(_INPUTS, *shape, generator=generator(0, "calls"))
    try:
        with seeded(0), torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings(action="ignore"), log:
            module(inputs)
    except Exception as error:  # whatever a user's module raises, in training on so few inputs for instance
        log.lines.append(f"raises {type(error).__name__}")
    return log.lines


class _Log(TorchFunctionMode):
    """Writes down every call of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401 - torch's signature
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - torch's signature
        """Run a call, and write it down unless it only asks for a shape or the like."""
        name = name_of(func)
        if name not in ASKED:
            self.lines.append(f"{name}{_text(args)}{_text(kwargs or {})}")
        return func(*args, **(kwargs or {}))


def _text(value: object) -> str:
    """Return an argument as text that is the same in each process."""
    match value:
        case Tensor():
            return f"{value.dtype}{list(value.shape)}"
        case tuple() | list():
            return f"({', '.join(map(_text, value))})"
        case dict():
            return f"({', '.join(f'{key}={_text(each)}' for key, each in value.items())})"
        case slice():
            return f"slice{_text((value.start, value.stop, value.step))}"
        case bool() | int() | float() | complex() | str() | None | torch.dtype() | torch.device():
            return repr(value)
    return type(value).__name__
