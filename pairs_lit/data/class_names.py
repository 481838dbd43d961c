"""Names and order of classes, from the dataset or from ``data.class_names``."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise

from pairs_lit.errors import PairsLitError
from pairs_lit.text import replace_control_characters, suggest_name

ClassName = str | int | float
"""A class name in a config; YAML reads a name such as 10 as a number."""

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,4})?", re.IGNORECASE)
_MINUS = "−"  # a true minus sign
_MAX_NAMES_SHOWN = 12


def sort_names(names: Iterable[str]) -> list[str]:
    """Return names sorted by value if all are different numbers (``-2``, ``0.5``, ``10``), else in natural order.

    In natural order, digits within a name compare as a number: ``2`` before ``10``, ``a2`` before ``a10``.
    """
    unsorted = list(names)
    numbers = _parse_numbers(unsorted)
    return sorted(unsorted, key=lambda name: numbers[name]) if numbers else sorted(unsorted, key=_get_natural_sort_key)


def _parse_numbers(names: Sequence[str]) -> dict[str, Decimal]:
    """Return the value of each name, or an empty mapping unless all names are numbers with different values."""
    texts = {name: name.strip().replace(_MINUS, "-") for name in names}
    if not all(_NUMBER.fullmatch(text) for text in texts.values()):
        return {}
    numbers = {name: Decimal(text) for name, text in texts.items()}
    return numbers if len(set(numbers.values())) == len(names) else {}


def _get_natural_sort_key(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Return the sort key of a name for natural order."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name.casefold())
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts], name


def are_in_numeric_order(names: Sequence[str]) -> bool:
    """Return whether names are ascending numbers, or hold one ascending number each (``0 - zero``, ``1 - one``)."""
    numbers = _parse_numbers(names)
    if numbers:
        return list(names) == sort_names(names)
    digits = [re.findall(r"[0-9]+", name) for name in names]
    values = [int(numbers_in_name[0]) for numbers_in_name in digits if len(numbers_in_name) == 1]
    return len(values) == len(names) and all(first < second for first, second in pairwise(values))


def check_names(names: Sequence[ClassName]) -> None:
    """Raise PairsLitError if a name is empty, is neither text nor a number, or occurs twice."""
    unclear = [name for name in names if isinstance(name, bool) or re.fullmatch(r"\s*|\[.*\]", str(name))]
    if unclear:  # YAML reads names such as no and off as booleans
        raise PairsLitError(
            f"data.class_names must contain only text or numbers, got {unclear[0]!r}. Put empty names, yes, no, "
            "on, off, true and false in quotes, or rename these classes."
        )
    duplicates = [name for name, count in Counter(map(str, names)).items() if count > 1]
    if duplicates:
        raise PairsLitError(
            f"data.class_names must differ from each other, got {duplicates[0]!r} twice. Name each class once."
        )


def _to_texts(requested: Sequence[ClassName], dataset_names: Sequence[str]) -> list[str]:
    """Return the requested names as texts; a number becomes the dataset's name with that value.

    YAML reads the name 1.00 as the number 1.0, so the text of the number need not be the name.
    """
    name_by_number = {number: name for name, number in _parse_numbers(dataset_names).items()}
    return [name if isinstance(name, str) else name_by_number.get(Decimal(str(name)), str(name)) for name in requested]


def order_classes(
    labels: Sequence[int], names: Mapping[int, str], class_names: Sequence[ClassName] | None, where: str
) -> tuple[list[int], list[str]]:
    """Return the labels of a dataset in the order of its classes, and the class names in the same order.

    Args:
        labels: All labels that occur, ascending.
        names: The dataset's own class names by label; empty if it has none.
        class_names: The option ``data.class_names``: the dataset's class names in the requested order, or names for
            its ascending labels if it has none. If None, names that are all numbers are sorted by value, and other
            names keep the order of their labels.
        where: The dataset's name in errors.

    Raises:
        PairsLitError: If two classes have the same name, or ``class_names`` does not match the dataset.
    """
    dataset_names = [names.get(label, str(label)) for label in labels]
    duplicate = next((name for name, count in Counter(dataset_names).items() if count > 1), None)
    if duplicate is not None:
        same_name = [str(label) for label, name in zip(labels, dataset_names, strict=True) if name == duplicate]
        raise PairsLitError(
            f"{where}: class names must differ from each other, got {duplicate!r} for labels "
            f"{' and '.join(same_name)}. Rename one."
        )
    label_by_name = dict(zip(dataset_names, labels, strict=True))
    requested = None if class_names is None else _to_texts(class_names, dataset_names)
    if requested is None:
        ordered = sort_names(dataset_names) if _parse_numbers(dataset_names) else dataset_names
    elif not names and not set(requested) & set(dataset_names) and len(requested) == len(dataset_names):
        return list(labels), requested
    else:
        _check_requested_names(requested, dataset_names, where)
        ordered = requested
    return [label_by_name[name] for name in ordered], ordered


def _check_requested_names(requested: Sequence[str], dataset_names: Sequence[str], where: str) -> None:
    """Raise PairsLitError unless the requested names are the dataset's names in some order."""
    unknown = [name for name in requested if name not in dataset_names]
    missing = [name for name in dataset_names if name not in requested]
    if not unknown and not missing:
        return
    problems = [f"{name!r} is not one of them{suggest_name(name, missing)}" for name in unknown[:1]]
    problems += [f"{name!r} is missing" for name in missing[:1] if not unknown or len(requested) < len(dataset_names)]
    raise PairsLitError(
        f"data.class_names must name the {len(dataset_names)} classes of {where} ({join_names(dataset_names)}), got "
        f"{len(requested)} names: {'; '.join(problem.rstrip('?') for problem in problems)}."
    )


def join_names(names: Sequence[str], between: str = ", ") -> str:
    """Return names as one short line of text; of many names, the middle ones are left out."""
    texts = [replace_control_characters(name)[:40] for name in names]
    return between.join(texts if len(texts) <= _MAX_NAMES_SHOWN else [*texts[: _MAX_NAMES_SHOWN - 1], "…", texts[-1]])


def describe_order(ordered_names: Sequence[str], *, is_folder: bool) -> list[str]:
    """Return a notice about the order of the classes if their names do not show it, else an empty list."""
    if are_in_numeric_order(ordered_names):
        return []
    order = "alphabetical order of the folders" if is_folder else "order of the labels"
    return [
        f"the class names are not numbers, so the relation compares classes in the {order}: "
        f"{join_names(ordered_names, ' < ')}. To use another order, set data.class_names to the list of names in that "
        "order"
    ]
