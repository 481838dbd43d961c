"""Hooks: what Lightning does around every batch costs as much as a small network's arithmetic."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from lightning.pytorch import Callback
from lightning.pytorch.profilers import PassThroughProfiler

Kind = TypeVar("Kind", bound=type[Callback])

_IN_BATCHES = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_validation_batch_start",
    "on_validation_batch_end",
)


def spares_batches(kind: Kind) -> Kind:
    """Mark the hooks of a callback class that do nothing in a batch: Lightning passes over what it cannot call."""
    for name in _IN_BATCHES:
        if getattr(kind, name) is getattr(Callback, name):
            setattr(kind, name, None)
    return kind


class NoProfiler(PassThroughProfiler):
    """Measures nothing, some forty times a step, and makes nothing for it, as Lightning's own does."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[Any]:  # type: ignore[override] # is a generator there
        """Return what does nothing."""
        return self._nothing
