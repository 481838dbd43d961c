"""``pairs-lit completion``: shell completion of commands, options, choices and bundled configs."""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, Literal, get_args, get_origin

from pairs_lit.commands import COMMANDS, LIGHTNING_COMMANDS
from pairs_lit.commands.option_parser import OptionParser
from pairs_lit.configuration.cli import ParseOnlyCLI, run_lightning_command
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.shipped_configs import list_shipped_configs

try:
    import shtab
except ModuleNotFoundError as error:
    raise PairsLitError("pairs-lit completion needs shtab: pip install 'pairs-lit[completion]'.") from error

_CONFIG_FUNCTIONS = {
    "bash": """_pairs_lit_config() {{ compgen -W "{names}" -- "$1"; compgen -f -- "$1"; }}""",
    "zsh": """_pairs_lit_config() {{ _alternative 'configs:bundled config:({names})' 'files:file:_files'; }}""",
}
"""The function that completes ``--config`` in each shell; in other shells, ``--config`` completes files only."""


def build_parser() -> OptionParser:
    """Build the argument parser of the command."""
    parser = OptionParser(
        prog="pairs-lit completion",
        description="Print a script for shell completion of commands, options and their choices. For bash, save it "
        "with: pairs-lit completion bash > ~/.local/share/bash-completion/completions/pairs-lit. For zsh, save it as "
        "a file named _pairs-lit in a folder of $fpath.",
    )
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="target shell")
    return parser


def run(args: Sequence[str]) -> None:
    """Run the command."""
    print(build_completion_script(build_parser().parse_args(args).shell))


def build_completion_script(shell: str) -> str:
    """Return the completion script for a shell.

    The parser of jsonargparse is copied into a plain one, because its own completion would search for every class that
    an option could name, which never ends.
    """
    root = argparse.ArgumentParser(prog="pairs-lit")
    root.add_argument("--version", action="store_true", help="print the version")
    commands = root.add_subparsers()
    fit_actions: Sequence[Any] = (
        run_lightning_command("fit", ["fit", "--config=fc"], kind=ParseOnlyCLI)._parser("fit")._actions
    )
    fit_options = [action for action in fit_actions if all(name.startswith("-") for name in action.option_strings)]
    for name, description in COMMANDS.items():
        command_parser = commands.add_parser(name, help=description, add_help=False)
        for action in [*_list_parser_options(name), *(fit_options if name in (*LIGHTNING_COMMANDS, "sweep") else [])]:
            _copy_option(action, command_parser, shell)
    preamble = _CONFIG_FUNCTIONS.get(shell, "").format(names=" ".join(list_shipped_configs()))
    return shtab.complete(root, shell, preamble=preamble)


def _list_parser_options(command: str) -> Sequence[argparse.Action]:
    """Return the options of a command's argparse parser.

    The list is empty for the commands of the LightningCLI, and for a command whose optional dependency is missing.
    """
    options: Sequence[argparse.Action] = []
    with suppress(PairsLitError):
        if command not in LIGHTNING_COMMANDS:
            options = import_module(f"pairs_lit.commands.{command}").build_parser()._actions
    return options


def _copy_option(action: argparse.Action, target: argparse.ArgumentParser, shell: str) -> None:
    """Add an option or argument that completes like ``action`` to a parser, unless the parser has it already."""
    if any(name in target._option_string_actions for name in action.option_strings) or action.help == argparse.SUPPRESS:
        return
    names = action.option_strings or [action.dest]
    text = (action.help or "").partition("\n")[0].replace("%", "%%")
    if action.nargs == 0:
        target.add_argument(*names, action="store_true", help=text)
        return
    added: Any = target.add_argument(
        *names, choices=_list_choices(action), nargs="*" if action.nargs else None, help=text
    )
    if "--config" in names and shell in _CONFIG_FUNCTIONS:
        added.complete = dict.fromkeys(_CONFIG_FUNCTIONS, "_pairs_lit_config")
    elif added.choices is None:
        added.complete = shtab.FILE


def _list_choices(action: Any) -> list[str] | None:  # noqa: ANN401 - an action of argparse or jsonargparse
    """Return the values that an option can take, or None if they are not a fixed list."""
    if action.choices is not None:
        return list(map(str, action.choices))
    kind = vars(action).get("_typehint")
    if get_origin(kind) is Literal:
        return list(map(str, get_args(kind)))
    return ["true", "false"] if kind is bool else None
