"""Words of messages: counts, sentences, suggestions."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches


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


def printable(text: str) -> str:
    """Replace control characters, which a terminal would obey, by question marks: the text may come from any file."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
