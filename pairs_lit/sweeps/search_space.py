"""Search space of a sweep: for each option, a list of values or a range of numbers."""

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pairs_lit.errors import PairsLitError

TrialValues = Mapping[str, Any]
"""The values of one trial, by option."""

MAX_TRIALS = 10_000
"""The largest number of trials of a sweep."""

_RANGE_KEYS = ("low", "high", "log", "steps")


@dataclass(frozen=True)
class Choices:
    """A list of values to choose from.

    Attributes:
        values: The values from the sweep file, of types that JSON supports.
    """

    values: tuple[Any, ...]

    def get_grid_values(self) -> Sequence[Any]:
        """Return all values."""
        return self.values

    def sample(self, generator: np.random.Generator) -> Any:  # noqa: ANN401 - any value
        """Return a random value."""
        return self.values[int(generator.integers(len(self.values)))]

    def get_example_values(self) -> Sequence[Any]:
        """Return the values that are tried out to check whether the option accepts them: all of them."""
        return self.values


@dataclass(frozen=True)
class Range:
    """The numbers from ``low`` to ``high``; only whole numbers if both ends are integers.

    Attributes:
        low: The smallest number.
        high: The largest number.
        is_log: Whether numbers are spaced evenly on a logarithmic scale.
        steps: How many numbers a grid tries, or None if the range is not meant for a grid.
    """

    low: float
    high: float
    is_log: bool = False
    steps: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the range holds only whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def get_grid_values(self) -> Sequence[float]:
        """Return ``steps`` evenly spaced numbers including both ends, without repetitions after rounding."""
        if self.steps is None:
            raise PairsLitError("a grid needs a list of values or a range with steps. Add steps, the number of values.")
        shares = [step / (self.steps - 1) for step in range(self.steps)] if self.steps > 1 else [0.0]
        return list(dict.fromkeys(self._get_value_at(share) for share in shares))

    def sample(self, generator: np.random.Generator) -> float:
        """Return a random number of the range."""
        return self._get_value_at(float(generator.random()))

    def get_example_values(self) -> Sequence[float]:
        """Return the values that are tried out to check whether the option accepts them: both ends."""
        return self.low, self.high

    def _get_value_at(self, share: float) -> float:
        """Return the number at this share, from 0 to 1, of the way from ``low`` to ``high``."""
        if self.is_log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        rounded = round(value) if self.is_whole else float(f"{value:.12g}")
        inside = min(max(rounded, self.low), self.high)
        return inside if self.is_whole else float(inside)


Dimension = Choices | Range


def parse_space(content: object, place: str) -> dict[str, Dimension]:
    """Parse the space of a sweep file.

    Args:
        content: For each option, a list of values or ``{low, high}`` with optional ``log`` and ``steps``.
        place: The file and key, for error messages.

    Raises:
        PairsLitError: The space is empty, or an option has neither a list nor a range.
    """
    if not isinstance(content, Mapping) or not content:
        raise PairsLitError(
            f"{place}: space must name at least one option. Add one, such as model.loss.aux_weight: [0.1, 1]."
        )
    space: dict[str, Dimension] = {}
    for option, value in content.items():
        where = f"{place}: {option}"
        if isinstance(value, list) and value:
            space[str(option)] = _parse_choices(value, where)
        elif isinstance(value, Mapping) and {"low", "high"} <= value.keys() <= set(_RANGE_KEYS):
            space[str(option)] = _parse_range(value, where)
        else:
            allowed = "a list of values, or {low: …, high: …} with optional log and steps"
            raise PairsLitError(f"{where} must be {allowed}, got {value!r}.")
    return space


def _parse_choices(values: Sequence[Any], place: str) -> Choices:
    """Return the choices; raise PairsLitError if a value has an unsupported type or is repeated."""
    seen = dict[str, Any]()
    for value in values:
        _check_value(value, place)
        key = get_key(value)
        if key in seen:
            raise PairsLitError(f"{place} has a value twice ({seen[key]!r} and {value!r}). Keep one of them.")
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


def get_key(value: object) -> str:
    """Return a value, or the values of a trial, as JSON text; texts are equal exactly if the values are equal."""
    return json.dumps(_replace_whole_floats(value), sort_keys=True)


def _replace_whole_floats(value: object) -> object:
    """Return the value with whole floats as integers, because 1 and 1.0 in a file are the same value."""
    if isinstance(value, Mapping):
        return {key: _replace_whole_floats(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_whole_floats(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def serialise_dimension(dimension: Dimension) -> list[Any] | dict[str, Any]:
    """Return a dimension in the format that :func:`parse_space` parses."""
    if isinstance(dimension, Choices):
        return list(dimension.values)
    ends: dict[str, Any] = {"low": dimension.low, "high": dimension.high}
    return ends | {"log": dimension.is_log, "steps": dimension.steps}


def find_removed_values(before: Dimension, now: Dimension, *, is_grid: bool) -> list[str]:
    """Return texts for the values that an option has lost; empty if its values were kept or extended.

    Args:
        before: The option's former values.
        now: The option's present values.
        is_grid: Whether to compare only the grid values, not the whole ranges.
    """
    if is_grid or (isinstance(before, Choices) and isinstance(now, Choices)):
        present = set(map(get_key, now.get_grid_values()))
        return [format_value(value) for value in before.get_grid_values() if get_key(value) not in present]
    if isinstance(before, Choices) or isinstance(now, Choices):
        return ["another kind of values (a list or a range)"]
    if (before.is_log, before.is_whole) != (now.is_log, now.is_whole):
        return ["another kind of range (log or whole numbers)"]
    return (
        []
        if now.low <= before.low and before.high <= now.high
        else [f"{format_value(before.low)} to {format_value(before.high)}"]
    )


def _parse_range(value: Mapping[str, Any], place: str) -> Range:
    low, high = value["low"], value["high"]
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in (low, high)):
        raise PairsLitError(f"{place}: low and high must be numbers, got {low!r} and {high!r}.")
    if not -math.inf < low < high < math.inf:
        raise PairsLitError(f"{place}: low must be smaller than high, and both finite, got {low} and {high}.")
    log, steps = value.get("log", False), value.get("steps")
    if not isinstance(log, bool):
        raise PairsLitError(f"{place}: log must be true or false, got {log!r}.")
    if log and low <= 0:
        raise PairsLitError(f"{place}: low must be above 0 with log, got {low}.")
    if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool) or steps < 1):
        raise PairsLitError(f"{place}: steps must be 1 or more, got {steps!r}.")
    dimension = Range(low, high, log, steps)
    if dimension.is_whole and steps is not None and steps > high - low + 1:
        raise PairsLitError(
            f"{place}: steps must be at most {high - low + 1}, the whole numbers from {low} to {high}, got {steps}. "
            f"Write {float(low)} and {float(high)} to try fractions, too."
        )
    return dimension


def build_grid(space: Mapping[str, Dimension]) -> list[TrialValues]:
    """Return every combination of the options' grid values; the last option varies fastest."""
    columns = []
    for option, dimension in space.items():
        try:
            columns.append(dimension.get_grid_values())
        except PairsLitError as error:
            raise PairsLitError(f"space.{option}: {error}") from error
    count = math.prod(map(len, columns))
    if count > MAX_TRIALS:
        raise PairsLitError(
            f"a grid must have at most {MAX_TRIALS} combinations, got {count}. Set sampler to random or tpe."
        )
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*columns)]


def sample_points(space: Mapping[str, Dimension], count: int, seed: int) -> list[TrialValues]:
    """Return random combinations; with the same seed, a larger count only adds further ones."""
    generator = np.random.default_rng(seed)
    return [{option: dimension.sample(generator) for option, dimension in space.items()} for _ in range(count)]


def generate_examples(space: Mapping[str, Dimension]) -> Iterator[TrialValues]:
    """Yield combinations that contain each value and each end of a range, with the first value of all other options."""
    first = {option: dimension.get_example_values()[0] for option, dimension in space.items()}
    yield first
    for option, dimension in space.items():
        for value in dimension.get_example_values()[1:]:
            yield {**first, option: value}


def build_short_names(options: Iterable[str]) -> dict[str, str]:
    """Return the shortest unique end of each option's name, such as ``lr`` for ``model.optimizer.init_args.lr``."""
    names = list(options)

    def get_end(option: str, parts: int) -> str:
        return ".".join(option.split(".")[-parts:])

    def shorten(option: str) -> str:
        ends = [get_end(option, parts) for parts in range(1, option.count(".") + 1)]
        unique = (end for parts, end in enumerate(ends, 1) if sum(get_end(other, parts) == end for other in names) == 1)
        return next(unique, option)

    return {option: shorten(option) for option in names}


_MAX_EXACT_LENGTH = 8


def format_value(value: object) -> str:
    """Return a value as written in a sweep file; long fractions are rounded to four significant digits."""
    if isinstance(value, float):
        rounded = f"{value:.4g}"
        return rounded if float(rounded) == value or len(repr(value)) > _MAX_EXACT_LENGTH else repr(value)
    return value if isinstance(value, str) else json.dumps(value)
