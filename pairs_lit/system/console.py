"""Terminal output: encodings, and notices to the user."""

import codecs
import io
import locale
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

_ASCII_SPELLINGS = {
    **{"−": "-", "–": "-", "×": "x", "±": "+/-", "∓": "-/+"},
    **{"…": "...", "≤": "<=", "≥": ">=", "→": "->", "·": "."},
}


def _replace_unencodable(error: UnicodeError) -> tuple[str, int]:
    """Return the ASCII spelling of characters that an output stream cannot encode, and the position after them."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_ASCII_SPELLINGS.get(letter, "?") for letter in error.object[error.start : error.end]), error.end


codecs.register_error("pairs_lit.ascii", _replace_unencodable)


@contextmanager
def use_utf8() -> Iterator[None]:
    """Read files and the standard input as UTF-8, and replace characters that the output streams cannot encode.

    On Linux and macOS, this includes files that libraries open without an encoding. On Windows, Python does not let a
    program change their encoding. The former settings are restored at the end of the context, except that of the
    standard input.
    """
    with ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stack.callback(stream.reconfigure, errors=stream.errors)
                stream.reconfigure(errors="pairs_lit.ascii")
        if locale.getencoding().lower() != "utf-8":  # libraries open files in the encoding of the locale
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(encoding="utf-8")
            stack.callback(locale.setlocale, locale.LC_CTYPE, locale.setlocale(locale.LC_CTYPE))
            for name in ("C.UTF-8", "UTF-8", "en_US.UTF-8"):  # Linux, macOS, elsewhere
                with suppress(locale.Error):
                    locale.setlocale(locale.LC_CTYPE, name)
                    break
        yield


def print_notice(message: str) -> None:
    """Print a notice to the user on the error stream; the output stream is reserved for results.

    Of several processes started by torchrun, by srun or by hand, only rank 0 prints it.
    """
    is_started_by_hand = {"LOCAL_RANK", "MASTER_PORT"} <= set(os.environ)
    local_rank = os.environ["LOCAL_RANK"] if is_started_by_hand else "0"
    if os.environ.get("RANK", os.environ.get("SLURM_PROCID", local_rank)) == "0":
        print(f"pairs-lit: {message}", file=sys.stderr, flush=True)
