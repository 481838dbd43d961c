"""The exception that the command line shows as one line, and the checks that raise it most often."""

import signal
from collections.abc import Sequence
from typing import get_args


class PairsLitError(Exception):
    """A mistake that the user can correct: says what was received, what is allowed and what to do next.

    Where a docstring says that something is refused, this is raised.
    """


class WorkerError(Exception):
    """An error in another worker, of the user's own code or of ours: its kind, message and place."""


class Stopped(BaseException):
    """A signal arrived.

    Args:
        number: The signal.
        going_on: The command that resumes from here, if it is known.
    """

    def __init__(self, number: int, going_on: str | None = None) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number
        self.going_on = going_on


def check_positive(name: str, value: int) -> None:
    """Refuse a count below 1; the name is the option's, as the user writes it."""
    if value < 1:
        raise PairsLitError(f"{name} is {value}: it must be 1 or more.")


def check_sizes(name: str, values: Sequence[int]) -> None:
    """Refuse sizes below 1."""
    if any(value < 1 for value in values):
        raise PairsLitError(f"{name} is {list(values)}: each must be 1 or more.")


def check_dropout(name: str, values: Sequence[float]) -> None:
    """Refuse dropout probabilities outside [0, 1)."""
    if not all(0 <= value < 1 for value in values):
        raise PairsLitError(f"{name} is {list(values)}: each must be 0 or more and below 1.")


def check_choice(name: str, allowed: object, *values: object) -> None:
    """Refuse values that a ``Literal`` type does not list; the command line checks this itself, Python does not."""
    choices = get_args(allowed)
    for value in values:
        if value not in choices:
            raise PairsLitError(f"{name} is {value!r}: it must be one of {', '.join(map(repr, choices))}.")
