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
        values: Of any kind that YAML knows.
    """

    values: tuple[Any, ...]

    is_log = False

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
        return min(max(rounded, self.low), self.high)


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
            if len({json.dumps(each, sort_keys=True, default=str) for each in value}) < len(value):
                raise PairsLitError(f"{where}: a value stands twice: keep one of them.")
            space[str(option)] = Choices(tuple(value))
        elif isinstance(value, Mapping) and {"low", "high"} <= value.keys() <= set(_RANGE):
            space[str(option)] = _range(value, where)
        else:
            what = "give a list of values, or {low: …, high: …} with log or steps"
            raise PairsLitError(f"{where} is {value!r}: {what}.")
    return space


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
    return Range(low, high, log, steps)


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


def shown(value: object) -> str:
    """Write a value as one would in a file, with four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
