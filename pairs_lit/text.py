"""Text helpers for messages: counts, sentences, spelling suggestions."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches


def format_count(count: int, what: str) -> str:
    """Return a count with its noun, such as "1 round" or "2 rounds"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def format_sentence(text: str) -> str:
    """Return a text with a capital first letter and a full stop, or an empty string for an empty text."""
    return f"{text[0].upper()}{text[1:]}." if text else ""


def suggest_name(written: str, known: Iterable[str]) -> str:
    """Return ": did you mean NAME?" for an unknown name, or an empty string if no known name is similar.

    Dotted names are compared by their last part, so that ``epochs`` suggests ``trainer.max_epochs``.
    """
    name = written.lstrip("-")
    dashes = written.removesuffix(name)
    last = name.replace("-", "_").rpartition(".")[2]
    last_parts = {candidate: candidate.rpartition(".")[2] for candidate in known}
    parts = last_parts.values()
    close = [last] if last in parts else get_close_matches(last, dict.fromkeys(parts), cutoff=0.65)
    similarity = {
        candidate: SequenceMatcher(None, name, candidate).ratio()
        for candidate, part in last_parts.items()
        if part in close
    }
    best = [candidate for candidate, ratio in similarity.items() if ratio > max(similarity.values()) - 0.05]
    return f": did you mean {' or '.join(dashes + candidate for candidate in best[:3])}?" if best else ""


def replace_control_characters(text: str) -> str:
    """Replace control characters by question marks, since a terminal would execute those of an untrusted file."""
    return "".join(character if character.isprintable() else "?" for character in text)
