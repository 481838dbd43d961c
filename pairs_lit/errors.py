"""The exception that the command line shows as one line, and the checks that raise it most often."""

import os
import signal
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
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


def counted(count: int, what: str) -> str:
    """Return "1 round", "2 rounds", and the like."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def sentence(text: str) -> str:
    """Return a text with a capital at its beginning and a full stop; nothing stays nothing."""
    return f"{text[0].upper()}{text[1:]}." if text else ""


def meant(written: str, known: Iterable[str]) -> str:
    """Return ": did you mean NAME?" for a name that is not known, or nothing where no known one is near.

    Of dotted names, those are near that end alike: ``epochs`` stands for ``trainer.max_epochs``.
    """
    name = written.lstrip("-")
    dashes = written.removesuffix(name)
    last = name.replace("-", "_").rpartition(".")[2]
    ends = {each: each.rpartition(".")[2] for each in known}
    close = [last] if last in ends.values() else get_close_matches(last, dict.fromkeys(ends.values()), cutoff=0.65)
    alike = {each: SequenceMatcher(None, name, each).ratio() for each, end in ends.items() if end in close}
    best = [each for each, ratio in alike.items() if ratio > max(alike.values()) - 0.05]
    return f": did you mean {' or '.join(dashes + each for each in best[:3])}?" if best else ""


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


def reason_of(error: BaseException) -> str:
    """Return kind and message of an error from elsewhere, in one short line."""
    text = " ".join(str(error).split())
    reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return reason.rstrip(".") if len(reason) <= 300 else f"{reason[:299]}…"


def place_of(error: BaseException) -> str:
    """Return where in the user's own code an error arose, ``my_nets.py:12``; elsewhere, the innermost place."""
    if isinstance(error, SyntaxError):
        return f"{Path(error.filename or '?').name}:{error.lineno}"
    return own_place_of(error) or "".join(_places(error)[-1:])


def own_place_of(error: BaseException) -> str:
    """Return where in the user's own code an error arose, ``my_nets.py:12``; empty: it did not arise there."""
    return "".join(_places(error, own=True)[-1:])


def _places(error: BaseException, *, own: bool = False) -> list[str]:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    found = [frame for frame in frames if not own or is_user_file(frame.filename)]
    return [f"{Path(frame.filename).name}:{frame.lineno}" for frame in found]


def is_user_file(filename: str) -> bool:
    """Return whether a Python file is the user's own: not Python's, not of an installed package, not of this one."""
    others = (*(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")), str(Path(__file__).parent))
    return not filename.startswith(others)


def printable(text: str) -> str:
    """Replace control characters, which a terminal would obey, by question marks: the text may come from any file."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def notice(message: str) -> None:
    """Tell the user what is going on, on the error stream; the output stream is for results.

    Of the processes that torchrun or srun started, the first one speaks for all.
    """
    if os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0":
        print(f"pairs-lit: {message}", file=sys.stderr, flush=True)
