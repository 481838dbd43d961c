"""The one exception that the command line turns into one line, and the checks that raise it most."""

import sys


class PairsLitError(Exception):
    """A mistake that the user can mend: says what was received, what is allowed, what to do next."""


def check_positive(name: str, value: int) -> None:
    """Refuse a count below 1.

    Args:
        name: The option as the user writes it, for the message.
        value: What was received.

    Raises:
        PairsLitError: The value is below 1.
    """
    if value < 1:
        raise PairsLitError(f"{name} is {value}: it must be 1 or more.")


def notice(message: str) -> None:
    """Tell the user, on the error stream, what is going on; results alone go to the output stream."""
    print(f"pairs-lit: {message}", file=sys.stderr, flush=True)
