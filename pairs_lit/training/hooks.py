"""Hooks of callbacks: what Lightning calls in every batch costs as much as a small network's arithmetic."""

from typing import TypeVar

from lightning.pytorch import Callback

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
