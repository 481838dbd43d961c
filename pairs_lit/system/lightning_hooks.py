"""Reduction of Lightning's overhead per batch, which costs as much time as the arithmetic of a small network."""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from lightning.pytorch import Callback
from lightning.pytorch.profilers import PassThroughProfiler

Kind = TypeVar("Kind", bound=type[Callback])
Method = TypeVar("Method", bound=Callable[..., Any])

_BATCH_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_validation_batch_start",
    "on_validation_batch_end",
)


def skip_batch_hooks(kind: Kind) -> Kind:
    """Set the batch hooks that a callback class does not override to None, so that Lightning does not call them."""
    for name in _BATCH_HOOKS:
        if getattr(kind, name) is getattr(Callback, name):
            setattr(kind, name, None)
    return kind


def keep_signature(method: Method) -> Method:
    """Store the signature of a step method, which Lightning otherwise computes for each batch."""
    method.__signature__ = inspect.signature(method)  # type: ignore[attr-defined] # read by inspect
    return method


class NoProfiler(PassThroughProfiler):
    """Profiler that measures nothing and, unlike Lightning's, allocates nothing in its about forty calls per step."""

    _null_context = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[Any]:  # type: ignore[override] # is a generator there
        """Return a context manager that does nothing."""
        return self._null_context
