"""Snapshots of a module's state, to detect changes while it runs and differences between two modules."""

import pickle
from collections import OrderedDict
from types import FunctionType, MethodType, NoneType

from torch import Tensor, nn

_TORCH_ATTRIBUTES = {"_parameters", "_buffers", "_modules", "forward"}
"""Attributes that are not compared: tensors and submodules are looked at separately, and a trace replaces forward."""

_IMMUTABLE_TYPES = (bool, int, str, NoneType)
_CONTAINER_TYPES = (dict, OrderedDict, list, tuple, set)

_MAX_DEPTH = 8
"""Nesting depth up to which an object that cannot be pickled is compared by its contents."""


def collect_state(module: nn.Module) -> dict[str, object]:
    """Return the attributes of a module and its submodules by dotted name, without modules and values of tensors.

    The values are frozen, so that they can be compared later.
    """
    parts = module.named_modules()
    attributes = ((f"{path}.{name}".lstrip("."), value) for path, part in parts for name, value in vars(part).items())
    return {name: _freeze(value) for name, value in attributes if name.rpartition(".")[2] not in _TORCH_ATTRIBUTES}


def collect_tensors(module: nn.Module) -> dict[str, Tensor | None]:
    """Return the parameters, buffers and other tensor attributes of a module by dotted name."""
    return {
        f"{path}.{name}".lstrip("."): value
        for path, part in module.named_modules()
        for name, value in [*part._parameters.items(), *part._buffers.items(), *vars(part).items()]
        if isinstance(value, Tensor) or name in part._buffers
    }


def _freeze(value: object, depth: int = 0) -> object:
    """Return an object that equals a later one only if the value has not changed in between."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype
    if type(value) in _IMMUTABLE_TYPES:  # pickling takes ten times as long, and most attributes are of these types
        return type(value), value
    if type(value) in _CONTAINER_TYPES and not value:
        return type(value)
    try:
        return pickle.dumps(value)
    except Exception:  # user objects may raise anything; a lambda, for example, cannot be pickled
        return (type(value), _freeze_parts(value, depth + 1)) if depth < _MAX_DEPTH else id(value)


def _freeze_parts(value: object, depth: int) -> object:
    """Freeze the parts of an object that cannot be pickled as a whole."""
    match value:
        case dict():
            return [(_freeze(key, depth), _freeze(item, depth)) for key, item in value.items()]
        case list() | tuple() | set():
            return [_freeze(item, depth) for item in value]
        case FunctionType():
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            return value.__code__, _freeze([*cells, value.__defaults__, value.__kwdefaults__], depth)
        case MethodType():
            return _freeze(value.__func__, depth), _freeze(value.__self__, depth)
        case nn.Module() | type():
            return id(value)
    return id(value), _freeze(getattr(value, "__dict__", None), depth)


class ChangeDetector:
    """Detector of changes in a module since the detector was created, apart from the values of its tensors.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._state, self._tensors = collect_state(module), collect_tensors(module)

    def find_change(self) -> str | None:
        """Return the dotted name of an attribute that has changed, or None if nothing has changed."""
        state, tensors = collect_state(self._module), collect_tensors(self._module)
        for name in {**state, **tensors, **self._state, **self._tensors}:
            if state.get(name) != self._state.get(name) or tensors.get(name) is not self._tensors.get(name):
                return name
        return None


def get_comparable_state(module: nn.Module) -> tuple[object, ...]:
    """Return a value that is equal for modules that differ in nothing but the values of their tensors.

    The values of two such modules may differ, if they hold objects that cannot be compared.
    """
    return [type(part) for part in module.modules()], collect_state(module)
