"""The space of a sweep: for each option, the values to choose from, or a range of numbers."""

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pairs_lit.errors import PairsLitError

Values = Mapping[str, Any]
"""By option, the value of one trial."""

MOST_TRIALS = 10_000
_RANGE = ("low", "high", "log", "steps")


@dataclass(frozen=True)
class Choices:
    """Some values, as they stand in the file.

    Attributes:
        values: Of the kinds that JSON knows.
    """

    values: tuple[Any, ...]

    def grid(self) -> Sequence[Any]:
        """Return all of them."""
        return self.values

    def drawn(self, generator: np.random.Generator) -> Any:  # noqa: ANN401 - any value
        """Draw one of them."""
        return self.values[int(generator.integers(len(self.values)))]

    def examples(self) -> Sequence[Any]:
        """Return what shows whether the option takes such values."""
        return self.values


@dataclass(frozen=True)
class Range:
    """The numbers from ``low`` to ``high``; whole ones if both are.

    Attributes:
        low: The least.
        high: The greatest.
        is_log: Whether equal ratios, not equal differences, are equally far apart.
        steps: How many a grid tries; None: no grid has been thought of.
    """

    low: float
    high: float
    is_log: bool = False
    steps: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def grid(self) -> Sequence[float]:
        """Return ``steps`` numbers, ends included."""
        if self.steps is None:
            raise PairsLitError("a grid needs values, or a range with steps: how many numbers to try.")
        shares = [place / (self.steps - 1) for place in range(self.steps)] if self.steps > 1 else [0.0]
        return list(dict.fromkeys(self._at(share) for share in shares))

    def drawn(self, generator: np.random.Generator) -> float:
        """Draw one of them."""
        return self._at(float(generator.random()))

    def examples(self) -> Sequence[float]:
        """Return the ends."""
        return self.low, self.high

    def _at(self, share: float) -> float:
        if self.is_log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        rounded = round(value) if self.is_whole else float(f"{value:.12g}")
        inside = min(max(rounded, self.low), self.high)
        return inside if self.is_whole else float(inside)


Dimension = Choices | Range


def read_space(content: object, place: str) -> dict[str, Dimension]:
    """Read the space of a sweep's file.

    Args:
        content: By option, a list of values, or ``{low, high}`` with ``log`` and ``steps``.
        place: What to call it in a message.

    Raises:
        PairsLitError: It is empty, or a value is neither.
    """
    if not isinstance(content, Mapping) or not content:
        raise PairsLitError(
            f"{place}: the space is empty: name an option, model.loss.aux_weight: [0.1, 1] for instance."
        )
    space: dict[str, Dimension] = {}
    for option, value in content.items():
        where = f"{place}: {option}"
        if isinstance(value, list) and value:
            space[str(option)] = _choices(value, where)
        elif isinstance(value, Mapping) and {"low", "high"} <= value.keys() <= set(_RANGE):
            space[str(option)] = _range(value, where)
        else:
            what = "give a list of values, or {low: …, high: …} with log or steps"
            raise PairsLitError(f"{where} is {value!r}: {what}.")
    return space


def _choices(values: Sequence[Any], place: str) -> Choices:
    """Return choices; raise PairsLitError for a value that no option takes, or that stands twice."""
    seen = dict[str, Any]()
    for value in values:
        _check_value(value, place)
        key = key_of(value)
        if key in seen:
            raise PairsLitError(f"{place}: a value stands twice ({seen[key]!r} and {value!r}): keep one of them.")
        seen[key] = value
    return Choices(tuple(values))


def _check_value(value: object, place: str) -> None:
    """Raise PairsLitError unless a value is text, a finite number, true, false, null, or made of such values."""
    if isinstance(value, list) or (isinstance(value, Mapping) and all(isinstance(key, str) for key in value)):
        for part in value.values() if isinstance(value, Mapping) else value:
            _check_value(part, place)
    elif not isinstance(value, str | int | float | None) or (isinstance(value, float) and not math.isfinite(value)):
        raise PairsLitError(
            f"{place} must hold text, finite numbers, true, false, null, or lists and mappings of these, got "
            f"{value!r}. Put a date or another special value in quotes."
        )


def key_of(value: object) -> str:
    """Return a value, or those of a trial, as JSON; equal numbers give the same text, other values do not."""
    return json.dumps(_with_whole_numbers(value), sort_keys=True)


def _with_whole_numbers(value: object) -> object:
    """Replace floats without a fraction by whole numbers: 1 and 1.0 in a file are the same value."""
    if isinstance(value, Mapping):
        return {key: _with_whole_numbers(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_with_whole_numbers(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def describe(dimension: Dimension) -> list[Any] | dict[str, Any]:
    """Return a dimension as :func:`read_space` reads it."""
    if isinstance(dimension, Choices):
        return list(dimension.values)
    ends: dict[str, Any] = {"low": dimension.low, "high": dimension.high}
    return ends | {"log": dimension.is_log, "steps": dimension.steps}


def find_removed(before: Dimension, now: Dimension, *, is_grid: bool) -> list[str]:
    """Return in words what an option could be before and cannot be now; empty if its values were kept or extended.

    Args:
        before: Its former values.
        now: Its present values.
        is_grid: Whether only the values of the grid count, not the whole range between them.
    """
    if is_grid or (isinstance(before, Choices) and isinstance(now, Choices)):
        kept = set(map(key_of, now.grid()))
        return [shown(value) for value in before.grid() if key_of(value) not in kept]
    if isinstance(before, Choices) or isinstance(now, Choices):
        return ["the same kind of values (a list, or a range)"]
    if (before.is_log, before.is_whole) != (now.is_log, now.is_whole):
        return ["the same kind of range (log, whole numbers)"]
    return [] if now.low <= before.low and before.high <= now.high else [f"{shown(before.low)} to {shown(before.high)}"]


def _range(value: Mapping[str, Any], place: str) -> Range:
    low, high = value["low"], value["high"]
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in (low, high)):
        raise PairsLitError(f"{place}: low is {low!r} and high {high!r}: they must be numbers.")
    if not -math.inf < low < high < math.inf:
        raise PairsLitError(f"{place}: low is {low} and high {high}: low must be the smaller one, and both finite.")
    log, steps = value.get("log", False), value.get("steps")
    if not isinstance(log, bool):
        raise PairsLitError(f"{place}: log is {log!r}: it must be true or false.")
    if log and low <= 0:
        raise PairsLitError(f"{place}: low is {low}: with log it must be above 0.")
    if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool) or steps < 1):
        raise PairsLitError(f"{place}: steps is {steps!r}: it must be 1 or more.")
    found = Range(low, high, log, steps)
    if found.is_whole and steps is not None and steps > high - low + 1:
        raise PairsLitError(
            f"{place}: steps must be at most {high - low + 1}, the whole numbers from {low} to {high}, got {steps}. "
            f"Write {float(low)} and {float(high)} to try fractions, too."
        )
    return found


def grid(space: Mapping[str, Dimension]) -> list[Values]:
    """Return every combination of the values; the last option varies fastest."""
    columns = []
    for option, dimension in space.items():
        try:
            columns.append(dimension.grid())
        except PairsLitError as error:
            raise PairsLitError(f"space.{option}: {error}") from error
    count = math.prod(map(len, columns))
    if count > MOST_TRIALS:
        raise PairsLitError(f"the space has {count} combinations, at most {MOST_TRIALS} are tried: use random or tpe.")
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*columns)]


def drawn(space: Mapping[str, Dimension], count: int, seed: int) -> list[Values]:
    """Return so many combinations, drawn at random; the first ones are the same whatever the count."""
    generator = np.random.default_rng(seed)
    return [{option: each.drawn(generator) for option, each in space.items()} for _ in range(count)]


def examples(space: Mapping[str, Dimension]) -> Iterator[Values]:
    """Yield combinations in which each value, and each end of a range, stands once, beside the first of the others."""
    first = {option: dimension.examples()[0] for option, dimension in space.items()}
    yield first
    for option, dimension in space.items():
        for value in dimension.examples()[1:]:
            yield {**first, option: value}


def short_names(options: Iterable[str]) -> dict[str, str]:
    """Return the end of each option's name that no other one has."""
    names = list(options)

    def end(option: str, parts: int) -> str:
        return ".".join(option.split(".")[-parts:])

    def short(option: str) -> str:
        counts = range(1, option.count(".") + 1)
        alone = (end(option, n) for n in counts if sum(end(other, n) == end(option, n) for other in names) == 1)
        return next(alone, option)

    return {option: short(option) for option in names}


_SHORT = 8


def shown(value: object) -> str:
    """Return a value as one would write it in a file; long fractions are rounded to four digits."""
    if isinstance(value, float):
        rounded = f"{value:.4g}"
        return rounded if float(rounded) == value or len(repr(value)) > _SHORT else repr(value)
    return value if isinstance(value, str) else json.dumps(value)
