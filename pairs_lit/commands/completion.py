"""``pairs-lit completion``: a script that lets a shell complete commands, options, choices and shipped configs."""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, Literal, get_args, get_origin

from pairs_lit.commands import COMMANDS, OF_LIGHTNING
from pairs_lit.commands.option_parser import OptionParser
from pairs_lit.configuration.cli import ParseOnlyCLI, train
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.shipped_configs import shipped_configs

try:
    import shtab
except ModuleNotFoundError as error:
    raise PairsLitError("pairs-lit completion needs shtab: pip install 'pairs-lit[completion]'.") from error

_CONFIG = {
    "bash": """_pairs_lit_config() {{ compgen -W "{names}" -- "$1"; compgen -f -- "$1"; }}""",
    "zsh": """_pairs_lit_config() {{ _alternative 'configs:shipped config:({names})' 'files:file:_files'; }}""",
}
"""How a shell completes ``--config``; others complete files only."""


def parser() -> OptionParser:
    """Return the parser of the command line."""
    found = OptionParser(
        prog="pairs-lit completion",
        description="Print a script that lets a shell complete commands, options and their choices. bash: pairs-lit "
        "completion bash > ~/.local/share/bash-completion/completions/pairs-lit; zsh: into a file _pairs-lit in a "
        "folder of $fpath.",
    )
    found.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="the shell that is to read it")
    return found


def run(args: Sequence[str]) -> None:
    """Run the command."""
    print(completion(parser().parse_args(args).shell))


def completion(shell: str) -> str:
    """Return the script for a shell.

    jsonargparse's own would look for every class that an option could name, and does not come to an end.
    """
    whole = argparse.ArgumentParser(prog="pairs-lit")
    whole.add_argument("--version", action="store_true", help="the version")
    commands = whole.add_subparsers()
    of_fit: Sequence[Any] = train("fit", ["fit", "--config=fc"], kind=ParseOnlyCLI)._parser("fit")._actions
    options = [each for each in of_fit if all(name.startswith("-") for name in each.option_strings)]
    for name, said in COMMANDS.items():
        each = commands.add_parser(name, help=said, add_help=False)
        for action in [*_own_options(name), *(options if name in (*OF_LIGHTNING, "sweep") else [])]:
            _copy(action, each, shell)
    preamble = _CONFIG.get(shell, "").format(names=" ".join(shipped_configs()))
    return shtab.complete(whole, shell, preamble=preamble)


def _own_options(command: str) -> Sequence[argparse.Action]:
    """Return the options of a command's own parser; none where it has none, or where its extra is not installed."""
    own: Sequence[argparse.Action] = []
    with suppress(PairsLitError):
        if command not in OF_LIGHTNING:
            own = import_module(f"pairs_lit.commands.{command}").parser()._actions
    return own


def _copy(action: argparse.Action, target: argparse.ArgumentParser, shell: str) -> None:
    """Give a parser an option or argument that completes like another one, unless it has it already."""
    if any(name in target._option_string_actions for name in action.option_strings) or action.help == argparse.SUPPRESS:
        return
    names = action.option_strings or [action.dest]
    text = (action.help or "").partition("\n")[0].replace("%", "%%")
    if action.nargs == 0:
        target.add_argument(*names, action="store_true", help=text)
        return
    copied: Any = target.add_argument(*names, choices=_choices(action), nargs="*" if action.nargs else None, help=text)
    if "--config" in names and shell in _CONFIG:
        copied.complete = dict.fromkeys(_CONFIG, "_pairs_lit_config")
    elif copied.choices is None:
        copied.complete = shtab.FILE


def _choices(action: Any) -> list[str] | None:  # noqa: ANN401 - argparse's, or jsonargparse's with a type
    if action.choices is not None:
        return list(map(str, action.choices))
    kind = vars(action).get("_typehint")
    if get_origin(kind) is Literal:
        return list(map(str, get_args(kind)))
    return ["true", "false"] if kind is bool else None
