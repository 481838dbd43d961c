"""Help on every option of a section of the configuration."""

import re
from argparse import SUPPRESS, Action

from jsonargparse import DefaultHelpFormatter

from pairs_lit.configuration.cli import ParseOnlyCLI, run_lightning_command

_SUBCLASSES = re.compile(r", known subclasses: [^)]*")
_SPHINX_ROLE = re.compile(r":\w+:`~?(?:\w+\.)*(\w+)`")
_LINKED = "Linked arguments:"
"""The heading of what the command line computes itself."""


class _PlainFormatter(DefaultHelpFormatter):
    """Help without Sphinx markup, nested types and the hundreds of classes that PyTorch defines."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100, max_help_position=28)  # type: ignore[no-untyped-call] # jsonargparse's

    def _format_action(self, action: Action) -> str:
        is_about_a_class = any(name.endswith(".help") for name in action.option_strings)
        return "" if is_about_a_class else super()._format_action(action)

    def _get_help_string(self, action: Action) -> str:
        text = _SUBCLASSES.sub("", super()._get_help_string(action))
        return _SPHINX_ROLE.sub(r"\1", text).replace("``", "")

    def _get_type_str(self, action: Action) -> str | None:
        text: str | None = super()._get_type_str(action)
        return None if text is None or "[" in text else text


def render_options(command: str, section: str) -> str:
    """Return the help on every option of a section, ``rounds``, ``data``, ``model`` or ``trainer``, or of ``all``."""
    parser = run_lightning_command("fit", ["fit", "--config=fc"], kind=ParseOnlyCLI)._parser(
        "fit"
    )  # the other commands have the same
    parser.formatter_class = _PlainFormatter
    parser.usage, parser.description = SUPPRESS, None
    groups = [group for group in parser.format_help().strip().split("\n\n") if not group.startswith(_LINKED)]
    if section != "all":
        groups = [group for group in groups if f"\n  --{section}" in group]
    title = f"Options of pairs-lit {command}" + ("" if section == "all" else f", section {section}")
    return "\n\n".join((title, *groups))
