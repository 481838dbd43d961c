"""The order and the names of classes: numbers by their value, other names naturally, or as the user says."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise

from pairs_lit.errors import PairsLitError
from pairs_lit.text import meant, printable

ClassName = str | int | float
"""A class's name as a config gives it; YAML reads a name such as 10 as a number."""

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,4})?", re.IGNORECASE)
_MINUS = "−"  # a true minus sign
_SHOWN = 12


def sort_names(names: Iterable[str]) -> list[str]:
    """Return names sorted by value if all are different numbers (``-2`` before ``0.5`` before ``10``), else naturally.

    Naturally means that numbers within names count as numbers: ``2`` before ``10``, ``a2`` before ``a10``.
    """
    listed = list(names)
    numbers = _numbers(listed)
    return sorted(listed, key=lambda name: numbers[name]) if numbers else sorted(listed, key=_natural)


def _numbers(names: Sequence[str]) -> dict[str, Decimal]:
    """Return the number that each name is; nothing if one is none, or two are the same."""
    spelt = {name: name.strip().replace(_MINUS, "-") for name in names}
    if not all(_NUMBER.fullmatch(text) for text in spelt.values()):
        return {}
    numbers = {name: Decimal(text) for name, text in spelt.items()}
    return numbers if len(set(numbers.values())) == len(names) else {}


def _natural(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    parts = re.findall(r"[0-9]+|[^0-9]+", name.casefold())
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts], name


def are_in_numeric_order(names: Sequence[str]) -> bool:
    """Return whether names are ascending numbers, or hold one ascending number each (``0 - zero``, ``1 - one``)."""
    numbers = _numbers(names)
    if numbers:
        return list(names) == sort_names(names)
    within = [re.findall(r"[0-9]+", name) for name in names]
    values = [int(found[0]) for found in within if len(found) == 1]
    return len(values) == len(names) and all(first < second for first, second in pairwise(values))


def check_names(names: Sequence[ClassName]) -> None:
    """Raise PairsLitError if a name is empty or neither text nor number, or stands twice."""
    unclear = [name for name in names if isinstance(name, bool) or re.fullmatch(r"\s*|\[.*\]", str(name))]
    if unclear:  # YAML reads no, off and the like as truth values
        raise PairsLitError(
            f"data.class_names must be texts or numbers, got {unclear[0]!r}. Put empty names, yes, no, on, off, true "
            "and false in quotes, or rename these classes."
        )
    twice = [name for name, count in Counter(map(str, names)).items() if count > 1]
    if twice:
        raise PairsLitError(
            f"data.class_names must differ from each other, got {twice[0]!r} twice. Name each class once."
        )


def _texts(wanted: Sequence[ClassName], found: Sequence[str]) -> list[str]:
    """Return the wanted names as texts; a number is the found name of this value, since YAML reads 1.00 as 1.0."""
    named = {number: name for name, number in _numbers(found).items()}
    return [name if isinstance(name, str) else named.get(Decimal(str(name)), str(name)) for name in wanted]


def order_classes(
    labels: Sequence[int], names: Mapping[int, str], class_names: Sequence[ClassName] | None, where: str
) -> tuple[list[int], list[str]]:
    """Return the labels of a dataset in the order of its classes, and what the classes are called.

    Args:
        labels: The labels that there are, ascending.
        names: What the dataset calls its classes, by label; empty: nothing.
        class_names: The user's ``data.class_names``: the order of the names that were found, or, where a dataset has
            none, names for its labels, ascending. None: names that are numbers are sorted by value, others keep the
            order of their labels.
        where: The dataset, for errors.

    Raises:
        PairsLitError: Two classes have one name, or the wanted names are not those that were found.
    """
    found = [names.get(label, str(label)) for label in labels]
    twice = next((name for name, count in Counter(found).items() if count > 1), None)
    if twice is not None:
        raise PairsLitError(
            f"{where}: class names must differ from each other, got {twice!r} for labels "
            f"{' and '.join(str(label) for label, name in zip(labels, found, strict=True) if name == twice)}. Rename "
            "one."
        )
    label_of = dict(zip(found, labels, strict=True))
    wanted = None if class_names is None else _texts(class_names, found)
    if wanted is None:
        called = sort_names(found) if _numbers(found) else found
    elif not names and not set(wanted) & set(found) and len(wanted) == len(found):
        return list(labels), wanted
    else:
        _check_wanted(wanted, found, where)
        called = wanted
    return [label_of[name] for name in called], called


def _check_wanted(wanted: Sequence[str], found: Sequence[str], where: str) -> None:
    """Raise PairsLitError if the wanted names are not those that were found."""
    unknown, left_out = (
        [each for each in one if each not in other] for one, other in ((wanted, found), (found, wanted))
    )
    if not unknown and not left_out:
        return
    parts = [f"{name!r} is none of them{meant(name, left_out)}" for name in unknown[:1]]
    parts += [f"{name!r} is missing" for name in left_out[:1] if not unknown or len(wanted) < len(found)]
    raise PairsLitError(
        f"data.class_names must name the {len(found)} classes of {where} ({join_names(found)}), got {len(wanted)} "
        f"names: {'; '.join(part.rstrip('?') for part in parts)}."
    )


def join_names(names: Sequence[str], between: str = ", ") -> str:
    """Return names in one short line, for people."""
    texts = [printable(name)[:40] for name in names]
    return between.join(texts if len(texts) <= _SHOWN else [*texts[: _SHOWN - 1], "…", texts[-1]])


def note_order(called: Sequence[str], *, is_folder: bool) -> list[str]:
    """Return what to tell of classes whose names do not say which is larger, in their order; nothing where they do."""
    if are_in_numeric_order(called):
        return []
    why = "alphabetical order of the folders" if is_folder else "order of the labels"
    return [
        f"the class names are not numbers, so the relation compares classes in the {why}: {join_names(called, ' < ')}. "
        "If another order is meant, set data.class_names to the list of the names in that order"
    ]
