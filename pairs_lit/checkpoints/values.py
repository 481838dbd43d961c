"""Tensors and plain values, all that a checkpoint may hold; other values are converted on saving if they can be."""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairs_lit.errors import PairsLitError

_KEPT = (torch.Size, torch.dtype, torch.device)
_NATIVE: dict[type, Callable[[Any], Any]] = {
    bool: bool,
    int: int.__int__,
    float: float.__float__,
    complex: complex.__complex__,
    str: str.__str__,
    bytes: bytes.__bytes__,
    bytearray: bytearray,
}
"""What turns a value of a class derived from a plain one into the plain one, whatever that class makes of it."""

_MOST_BITS = 2000
"""Larger integers can be saved, but not loaded."""

_DEEPEST = 100


def plain(value: Any, place: str, depth: int = 0) -> Any:  # noqa: ANN401 - any value
    """Return a value as tensors and plain values.

    NumPy's numbers become Python's, its arrays tensors, paths texts, deques and sets lists, members of an enumeration
    their values; dictionaries, lists and tuples are taken apart. Loading does not convert them back.

    Raises:
        PairsLitError: Something in it cannot be converted, or it contains itself; the message names the place.
    """
    if depth > _DEEPEST:
        raise PairsLitError(
            f"no checkpoint can hold {place[:60]}…: it is nested too deeply, or contains itself. Leave it out."
        )
    if value is None or isinstance(value, _KEPT):
        return value
    if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta:
        return value.detach().as_subclass(Tensor)
    if isinstance(value, Enum):
        return plain(value.value, place, depth + 1)
    if isinstance(value, np.generic | np.ndarray):
        return _plain_numpy(value, place)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return _plain_mapping(value, place, depth)
    if isinstance(value, list | tuple | deque):
        items = [plain(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, set | frozenset):
        return [plain(item, place, depth + 1) for item in sorted(value, key=repr)]
    made = next((make(value) for kind, make in _NATIVE.items() if isinstance(value, kind)), None)
    if made is None or (isinstance(made, int) and made.bit_length() > _MOST_BITS):
        raise _refusal(value, place)
    return bytearray() if made == b"" else made  # empty bytes could not be loaded


def _plain_numpy(value: Any, place: str) -> Any:  # noqa: ANN401 - a number or an array
    if isinstance(value, np.ma.MaskedArray):
        raise _refusal(value, place)
    if isinstance(value, np.ndarray) and value.ndim > 0:
        native = value.astype(value.dtype.newbyteorder("="), order="C")  # a copy: what is saved must not change
        try:
            return torch.from_numpy(native)
        except TypeError:
            return plain(value.tolist(), place)
    number = value.item()
    if isinstance(number, np.generic):  # a kind that Python lacks, such as a long double
        raise _refusal(value, place)
    return plain(number, place)


def _plain_mapping(value: Mapping[Any, Any], place: str, depth: int) -> dict[Any, Any]:
    items: dict[Any, Any] = {}
    for key, item in value.items():
        named = plain(key, f"a key of {place}", depth + 1)
        try:
            repeated = named in items
        except TypeError:  # a tuple may hold a list
            repeated = True
        if repeated:
            raise PairsLitError(
                f"no checkpoint can hold {place}: its key {key!r:.60} has no plain form, or that of another key. Use "
                "texts or numbers."
            )
        items[named] = plain(item, f"{place}[{key!r}]", depth + 1)
    return OrderedDict(items) if isinstance(value, OrderedDict) else items


def _refusal(value: object, place: str) -> PairsLitError:
    kind = type(value)
    long = f" of more than {_MOST_BITS} bits" if isinstance(value, int) else ""
    return PairsLitError(
        f"no checkpoint can hold {place}, a {kind.__module__}.{kind.__qualname__}{long}: leave it out, or make it "
        "numbers, texts, tensors, or lists and dictionaries of these."
    )
