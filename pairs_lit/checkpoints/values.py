"""Conversion of values to tensors and plain Python values, the only ones that a checkpoint may hold."""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairs_lit.errors import PairsLitError

_UNCHANGED_TYPES = (torch.Size, torch.dtype, torch.device)
"""Types that need no conversion."""
_PLAIN_CONVERTERS: dict[type, Callable[[Any], Any]] = {
    bool: bool,
    int: int.__int__,
    float: float.__float__,
    complex: complex.__complex__,
    str: str.__str__,
    bytes: bytes.__bytes__,
    bytearray: bytearray,
}
"""Conversions from a subclass to the plain type, which do not depend on methods that the subclass overrides."""

_MAX_BITS = 2000
"""The maximum size of an integer; larger ones could be saved but not loaded."""

_MAX_DEPTH = 100
"""The maximum depth of nesting."""


def to_plain_values(value: Any, place: str, depth: int = 0) -> Any:  # noqa: ANN401 - any value
    """Convert a value to tensors and plain values.

    NumPy numbers become Python numbers, arrays become tensors, paths become strings, deques and sets become lists, and
    enum members become their values. Dictionaries, lists and tuples are converted recursively. Loading does not convert
    the values back.

    Args:
        value: The value.
        place: The place of the value in the checkpoint, for messages.
        depth: The depth of nesting.

    Raises:
        PairsLitError: A part of the value cannot be converted, or the value contains itself. The message names the
            place.
    """
    if depth > _MAX_DEPTH:
        raise PairsLitError(
            f"no checkpoint can hold {place[:60]}…, which is nested too deeply or contains itself. Leave it out."
        )
    if value is None or isinstance(value, _UNCHANGED_TYPES):
        return value
    if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta:
        return value.detach().as_subclass(Tensor)
    if isinstance(value, Enum):
        return to_plain_values(value.value, place, depth + 1)
    if isinstance(value, np.generic | np.ndarray):
        return _convert_numpy(value, place)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return _convert_mapping(value, place, depth)
    if isinstance(value, list | tuple | deque):
        items = [to_plain_values(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, set | frozenset):
        return [to_plain_values(item, place, depth + 1) for item in sorted(value, key=repr)]
    converted = next((convert(value) for kind, convert in _PLAIN_CONVERTERS.items() if isinstance(value, kind)), None)
    if converted is None or (isinstance(converted, int) and converted.bit_length() > _MAX_BITS):
        raise _build_error(value, place)
    return bytearray() if converted == b"" else converted  # empty bytes could not be loaded


def _convert_numpy(value: Any, place: str) -> Any:  # noqa: ANN401 - a number or an array
    """Convert a NumPy number to a Python number, and an array to a tensor or, if it has other types, to lists."""
    if isinstance(value, np.ma.MaskedArray):
        raise _build_error(value, place)
    if isinstance(value, np.ndarray) and value.ndim > 0:
        native = value.astype(value.dtype.newbyteorder("="), order="C")  # a copy, so that later changes have no effect
        try:
            return torch.from_numpy(native)
        except TypeError:
            return to_plain_values(value.tolist(), place)
    number = value.item()
    if isinstance(number, np.generic):  # a type that Python lacks, such as a long double
        raise _build_error(value, place)
    return to_plain_values(number, place)


def _convert_mapping(value: Mapping[Any, Any], place: str, depth: int) -> dict[Any, Any]:
    """Convert the keys and values of a mapping."""
    items: dict[Any, Any] = {}
    for key, item in value.items():
        plain_key = to_plain_values(key, f"a key of {place}", depth + 1)
        try:
            is_rejected = plain_key in items
        except TypeError:  # a tuple with a list in it cannot be a key
            is_rejected = True
        if is_rejected:
            raise PairsLitError(
                f"no checkpoint can hold {place}: its key {key!r:.60} cannot be converted to a plain key that differs "
                "from all others. Use strings or numbers as keys."
            )
        items[plain_key] = to_plain_values(item, f"{place}[{key!r}]", depth + 1)
    return OrderedDict(items) if isinstance(value, OrderedDict) else items


def _build_error(value: object, place: str) -> PairsLitError:
    """Build the error for a value that cannot be converted."""
    kind = type(value)
    size = f" of more than {_MAX_BITS} bits" if isinstance(value, int) else ""
    return PairsLitError(
        f"no checkpoint can hold {place}, a {kind.__module__}.{kind.__qualname__}{size}. Leave it out, or convert it "
        "to numbers, strings, tensors, or lists and dictionaries of these."
    )
