"""Exceptions of the package, and checks of option values that many modules share."""

import signal
from collections.abc import Sequence
from typing import get_args


class PairsLitError(Exception):
    """User error; the message names the value and the fix.

    The command line prints the message in one line, without a traceback, and exits with code 2.
    """


class WorkerError(Exception):
    """Unexpected error in another worker process; the message names its type, text and line of code."""


class Stopped(BaseException):
    """A signal ended the command.

    Args:
        number: The signal.
        resume_command: The command that resumes the work, or None if it is not known.
    """

    def __init__(self, number: int, resume_command: str | None = None) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number
        self.resume_command = resume_command


def check_positive(name: str, value: int) -> None:
    """Raise PairsLitError if a count is below 1.

    Args:
        name: The option, as the user writes it.
        value: The count.
    """
    if value < 1:
        raise PairsLitError(f"{name} must be 1 or more, got {value}.")


def check_sizes(name: str, values: Sequence[int]) -> None:
    """Raise PairsLitError if any of the sizes is below 1."""
    if any(value < 1 for value in values):
        raise PairsLitError(f"{name} must contain only values of 1 or more, got {list(values)}.")


def check_dropout(name: str, values: Sequence[float]) -> None:
    """Raise PairsLitError if any of the dropout probabilities lies outside [0, 1)."""
    if not all(0 <= value < 1 for value in values):
        raise PairsLitError(f"{name} must contain only values of 0 or more and below 1, got {list(values)}.")


def check_choice(name: str, allowed: object, *values: object) -> None:
    """Raise PairsLitError if any of the values is not listed by a ``Literal`` type.

    The parser of the command line checks this as well; calls from Python do not pass through it.
    """
    choices = get_args(allowed)
    for value in values:
        if value not in choices:
            raise PairsLitError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")
