"""Former names of public classes, attributes and methods: they still work, with a DeprecationWarning."""

import sys
from collections.abc import Callable, Mapping
from typing import Any
from warnings import warn


class RenamedAttribute:
    """A former name of an attribute or method, as a class attribute: ``answers = RenamedAttribute("predict")``.

    Args:
        new: The present name.
    """

    def __init__(self, new: str) -> None:
        self.new = new

    def __set_name__(self, owner: type, name: str) -> None:
        """Remember the class and the former name."""
        self._old = f"{owner.__name__}.{name}"
        self._present = f"{owner.__name__}.{self.new}"

    def __get__(self, instance: object, owner: type | None = None) -> Any:  # noqa: ANN401 - the attribute's own type
        """Return the attribute of the present name, with a warning."""
        warn(f"{self._old} is now {self._present}.", DeprecationWarning, stacklevel=2)
        return getattr(owner if instance is None else instance, self.new)


def renamed_names(module: str, present_names: Mapping[str, str]) -> Callable[[str], object]:
    """Return a ``__getattr__`` for a module that still knows former names.

    Args:
        module: The name of the module.
        present_names: The present name in this module of each former name.
    """

    def get_renamed(name: str) -> object:
        if name not in present_names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn(f"{module}.{name} is now {module}.{present_names[name]}.", DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[module], present_names[name])

    return get_renamed
