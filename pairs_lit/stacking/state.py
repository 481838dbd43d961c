"""What a module holds, to see whether it changes while it runs, or differs from another."""

import pickle

from torch import Tensor, nn

_OF_TORCH = {"_parameters", "_buffers", "_modules", "training", "forward"}


def state_of(module: nn.Module) -> dict[str, object]:
    """Return what a module holds besides tensors and modules, by its place, to see whether it changes or differs."""
    places = module.named_modules()
    attributes = (
        (f"{place}.{name}".lstrip("."), value) for place, part in places for name, value in vars(part).items()
    )
    return {name: _frozen(value) for name, value in attributes if name.rpartition(".")[2] not in _OF_TORCH}


def tensors_of(module: nn.Module) -> dict[str, object]:
    """Return which tensors a module holds, by their place, to see whether it replaces one."""
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {name: id(value) for name, value in named}


def _frozen(value: object) -> object:
    if isinstance(value, Tensor):
        return value.shape, value.dtype
    try:
        return pickle.dumps(value)
    except Exception:  # whatever an object of the user's raises; a lambda, for instance, cannot be pickled
        return id(value)


def surely_alike(one: nn.Module, other: nn.Module) -> bool:
    """Say whether two modules hold the same besides tensors, so that they compute the same way; False: perhaps not."""
    kinds = [[type(part) for part in module.modules()] for module in (one, other)]
    return kinds[0] == kinds[1] and state_of(one) == state_of(other)
