"""Check of a sweep's command-line options, which rejects options that the sweep sets itself."""

from collections.abc import Iterator, Mapping, Sequence

import yaml

from pairs_lit.configuration.option_text import iter_options
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.yaml_text import Loader
from pairs_lit.sweeps.spec import OPTIONS_SET_BY_SWEEP, Spec
from pairs_lit.system.console import print_notice


def check_sweep_options(args: Sequence[str], spec: Spec) -> None:
    """Raise PairsLitError for an option that the sweep sets itself, and print a notice for one that it varies.

    Args:
        args: The arguments of the fit that the sweep varies, as on the command line or in ``changes``.
        spec: The content of the sweep file.
    """
    sweep_values = {"rounds.count": str(spec.rounds.count), "rounds.seed": str(spec.rounds.seed)}
    for option, value in _iterate_options(args):
        reason = OPTIONS_SET_BY_SWEEP.get(option)
        if reason is not None and value != sweep_values.get(option):  # an equal number changes nothing
            raise PairsLitError(f"{option} cannot be given to a sweep: {reason}. Leave it out.")
        if option in spec.space and spec.confirm is None:
            print_notice(
                f"{option} is varied: the sweep file's values are used, and the command line's value is ignored."
            )


def _iterate_options(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield dotted name and text of each option, also of those inside a mapping such as --data '{watch_test: true}'."""
    for option, text in iter_options(args):
        yield from _flatten_option(option.removeprefix("--"), _parse_mapping(text), text)


def _flatten_option(name: str, value: object, text: str) -> Iterator[tuple[str, str]]:
    yield name, text
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flatten_option(f"{name}.{key}", part, str(part))


def _parse_mapping(text: str) -> object:
    """Return the YAML mapping in the text, or None if the text is not a valid mapping."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value: object = yaml.load(text, Loader)
    except yaml.YAMLError:  # the fit's own parser reports invalid YAML
        return None
    return value
