"""Fingerprint of a plain module's computation: a digest of the torch calls in its ``forward``."""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pairs_lit.seeds import build_generator, use_seed
from pairs_lit.stacking.recording.traced_graph import get_call_name
from pairs_lit.stacking.recording.tracing import METADATA_QUERIES

_INPUT_COUNT = 3


def compute_call_digest(modules: Sequence[tuple[nn.Module, Sequence[int]]], *, training: bool) -> str:
    """Return a digest of the torch calls that modules make, with the constants and tensor shapes of these calls.

    Comments, variable names and the order of definitions do not change the digest. Another release of torch may.

    Args:
        modules: Plain modules, each with the shape of one of its inputs, without N. They are run, which may change
            their state.
        training: Whether to run them in training mode.
    """
    lines = [line for module, shape in modules for line in _list_calls(module.train(training), shape)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _list_calls(module: nn.Module, shape: Sequence[int]) -> list[str]:
    """Return one line per trained parameter and per call, and a last line if ``forward`` raises an error."""
    log = _CallLog()
    log.lines += [f"trains {name}" for name, value in module.named_parameters() if value.requires_grad]
    inputs = torch.rand(_INPUT_COUNT, *shape, generator=build_generator(0, "calls"))
    try:
        with (
            use_seed(0),
            torch.inference_mode(False),
            torch.enable_grad(),
            warnings.catch_warnings(action="ignore"),
            log,
        ):
            module(inputs)
    except Exception as error:  # user code may raise anything, for example in training on only three inputs
        log.lines.append(f"raises {type(error).__name__}")
    return log.lines


class _CallLog(TorchFunctionMode):
    """Torch function mode that logs the calls of torch."""

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
        """Run a call, and log it unless it only queries a tensor's metadata, such as its shape."""
        name = get_call_name(func)
        if name not in METADATA_QUERIES:
            self.lines.append(f"{name}{_format_argument(args)}{_format_argument(kwargs or {})}")
        return func(*args, **(kwargs or {}))


def _format_argument(value: object) -> str:
    """Format an argument as text that does not differ between processes."""
    match value:
        case Tensor():
            return f"{value.dtype}{list(value.shape)}"
        case tuple() | list():
            return f"({', '.join(map(_format_argument, value))})"
        case dict():
            return f"({', '.join(f'{key}={_format_argument(item)}' for key, item in value.items())})"
        case slice():
            return f"slice{_format_argument((value.start, value.stop, value.step))}"
        case bool() | int() | float() | complex() | str() | None | torch.dtype() | torch.device():
            return repr(value)
    return type(value).__name__
