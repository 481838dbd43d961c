"""Encoding of the files that jsonargparse reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jsonargparse._paths import Path as ParserPath

_read_in_locale_encoding = ParserPath.read_text


def _read_text(path: ParserPath) -> str:
    """Return the text of a file; jsonargparse itself reads what is no file, such as the standard input."""
    file = Path(path.absolute)
    return file.read_text(encoding="utf-8-sig") if file.is_file() else _read_in_locale_encoding(path)


@contextmanager
def read_files_as_utf8() -> Iterator[None]:
    """Make jsonargparse read files as UTF-8, with or without a byte order mark, in this context.

    Otherwise it would use the encoding of the locale, which a program cannot change on Windows.
    """
    ParserPath.read_text = _read_text  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        ParserPath.read_text = _read_in_locale_encoding  # type: ignore[method-assign]
