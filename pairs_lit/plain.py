"""What a checkpoint may hold: tensors and plain values; whatever has such a form is brought into it on saving."""

from collections import OrderedDict, deque
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairs_lit.errors import PairsLitError

_KEPT = (torch.Size, torch.dtype, torch.device)
_NATIVE: tuple[type, ...] = (bool, int, float, complex, str, bytes)


_DEEPEST = 100


def plain(value: Any, place: str, depth: int = 0) -> Any:  # noqa: ANN401 - any value
    """Return a value as tensors and plain values.

    NumPy's numbers become Python's, its arrays tensors, paths texts, deques and sets lists, members of an enumeration
    their values; dictionaries, lists and tuples are taken apart. On loading they stay what they have become.

    Args:
        value: What is to be saved.
        place: Where it stands, for the message.
        depth: How many lists and dictionaries it stands in.

    Raises:
        PairsLitError: Something in it has no such form, or it has no end; the message names its place.
    """
    if depth > _DEEPEST:
        raise PairsLitError(
            f"no checkpoint can hold {place[:60]}…: it lies too deep, or refers to itself. Leave it out."
        )
    if value is None or type(value) in _NATIVE or isinstance(value, _KEPT):
        return value
    if isinstance(value, Tensor):
        return _plain_tensor(value, place)
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
    native = next((kind for kind in _NATIVE if isinstance(value, kind)), None)
    if native is None:
        raise _refusal(value, place)
    return native(value)


def _plain_tensor(value: Tensor, place: str) -> Tensor:
    if value.layout is not torch.strided or value.is_meta:
        raise _refusal(value, place)
    return value.detach().as_subclass(Tensor)


def _plain_numpy(value: Any, place: str) -> Any:  # noqa: ANN401 - a number or an array
    if isinstance(value, np.ndarray) and value.ndim > 0:
        try:
            return torch.from_numpy(np.array(value, order="C"))  # a copy: what is saved must not change meanwhile
        except TypeError:
            return plain(value.tolist(), place)
    number = value.item()
    if isinstance(number, np.generic):  # a kind that Python has not, such as a long double
        raise _refusal(value, place)
    return plain(number, place)


def _plain_mapping(value: Mapping[Any, Any], place: str, depth: int) -> dict[Any, Any]:
    items = {
        plain(key, f"a key of {place}", depth + 1): plain(item, f"{place}[{key!r}]", depth + 1)
        for key, item in value.items()
    }
    return OrderedDict(items) if isinstance(value, OrderedDict) else items


def _refusal(value: object, place: str) -> PairsLitError:
    kind = type(value)
    return PairsLitError(
        f"no checkpoint can hold {place}, a {kind.__module__}.{kind.__qualname__}: leave it out, or make it numbers, "
        "texts, tensors, or lists and dictionaries of these."
    )
