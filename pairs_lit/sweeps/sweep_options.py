"""The options on a sweep's command line: those that the sweep sets itself are rejected."""

from collections.abc import Iterator, Mapping, Sequence

import yaml

from pairs_lit.configuration.option_text import options_in
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.yaml_text import Loader
from pairs_lit.sweeps.spec import SET_BY_SWEEP, Spec
from pairs_lit.system.console import notice


def check_options(args: Sequence[str], spec: Spec) -> None:
    """Raise PairsLitError for an option that the sweep sets; tell the user of one that it varies.

    Args:
        args: The arguments of the fit that is varied, as the command line or ``changes`` spell them.
        spec: What the sweep's file says.
    """
    own = {"rounds.count": str(spec.rounds.count), "rounds.seed": str(spec.rounds.seed)}
    for option, value in _options_in(args):
        reason = SET_BY_SWEEP.get(option)
        if reason is not None and value != own.get(option):  # the sweep's own number changes nothing
            raise PairsLitError(f"{option} cannot be given to a sweep: {reason}. Leave it out.")
        if option in spec.space and spec.confirm is None:
            notice(f"{option} is varied: the values in the sweep's file are used, not that of the command line.")


def _options_in(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the dotted names and the values of the options, also of those in a mapping: --data '{watch_test: true}'."""
    for option, text in options_in(args):
        yield from _values(option.removeprefix("--"), _read(text), text)


def _values(name: str, value: object, text: str) -> Iterator[tuple[str, str]]:
    yield name, text
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _values(f"{name}.{key}", part, str(part))


def _read(text: str) -> object:
    """Return a value as YAML reads it, or None if it cannot."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        found: object = yaml.load(text, Loader)
    except yaml.YAMLError:  # the parser of the fit says so
        return None
    return found
