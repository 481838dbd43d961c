"""What a module holds, to see whether it changes while it runs, or differs from another."""

import pickle
from types import FunctionType, MethodType

from torch import Tensor, nn

_OF_TORCH = {"_parameters", "_buffers", "_modules", "forward"}
_DEEPEST = 8


def state_of(module: nn.Module) -> dict[str, object]:
    """Return what a module holds besides modules and the values of tensors, by its place."""
    places = module.named_modules()
    attributes = (
        (f"{place}.{name}".lstrip("."), value) for place, part in places for name, value in vars(part).items()
    )
    return {name: _frozen(value) for name, value in attributes if name.rpartition(".")[2] not in _OF_TORCH}


def tensors_of(module: nn.Module) -> dict[str, Tensor | None]:
    """Return the tensors that a module holds, by their place: parameters, buffers and others."""
    return {
        f"{place}.{name}".lstrip("."): value
        for place, part in module.named_modules()
        for name, value in [*part._parameters.items(), *part._buffers.items(), *vars(part).items()]
        if isinstance(value, Tensor) or name in part._buffers
    }


def _frozen(value: object, depth: int = 0) -> object:
    """Return something that is equal only as long as a value stays the same."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype
    try:
        return pickle.dumps(value)
    except Exception:  # whatever an object of the user's raises; a lambda, for instance, cannot be pickled
        return (type(value), _parts(value, depth + 1)) if depth < _DEEPEST else id(value)


def _parts(value: object, depth: int) -> object:
    """Take apart what cannot be pickled as a whole."""
    match value:
        case dict():
            return [(_frozen(key, depth), _frozen(each, depth)) for key, each in value.items()]
        case list() | tuple() | set():
            return [_frozen(each, depth) for each in value]
        case FunctionType():
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            return value.__code__, _frozen([*cells, value.__defaults__, value.__kwdefaults__], depth)
        case MethodType():
            return _frozen(value.__func__, depth), _frozen(value.__self__, depth)
        case nn.Module() | type():
            return id(value)
    return id(value), _frozen(getattr(value, "__dict__", None), depth)


class Watch:
    """Sees whether a module changes besides the values of its tensors.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._state, self._tensors = state_of(module), tensors_of(module)

    def changed(self) -> str | None:
        """Return the place of something that has changed since; None: nothing has."""
        state, tensors = state_of(self._module), tensors_of(self._module)
        for name in {**state, **tensors, **self._state, **self._tensors}:
            if state.get(name) != self._state.get(name) or tensors.get(name) is not self._tensors.get(name):
                return name
        return None


def surely_alike(one: nn.Module, other: nn.Module) -> bool:
    """Say whether two modules hold the same besides tensors, so that they compute the same way; False: perhaps not."""
    kinds = [[type(part) for part in module.modules()] for module in (one, other)]
    return kinds[0] == kinds[1] and state_of(one) == state_of(other)
