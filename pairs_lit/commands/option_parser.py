"""Argument parser, shared options and output of the commands that do not use the LightningCLI."""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.atomic_write import write_text_atomically
from pairs_lit.system.file_names import check_output_path, fold_name
from pairs_lit.system.paths import expand_user_path
from pairs_lit.text import suggest_name

_FIGURE_SUFFIXES = (".png", ".svg", ".pdf")


class OptionParser(argparse.ArgumentParser):
    """Argument parser that raises PairsLitError instead of exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise PairsLitError with a spelling suggestion; argparse itself would print its usage and exit."""
        unknown = re.search(r"unrecognized arguments: ([\w-]+)|invalid choice: '(.*?)' \(choose from (.*)\)", message)
        suggestion = ""
        if unknown is not None:
            known = [option.dest for option in self._actions] if unknown[1] else re.findall(r"\w+", unknown[3])
            suggestion = suggest_name(unknown[1] or unknown[2], known)
        raise PairsLitError(f"{message}{suggestion} ({self.prog} --help lists the options).")


def add_run_argument(parser: OptionParser) -> None:
    """Add the run folder and ``--allow-changed-code``, which all commands that load networks share."""
    parser.add_argument("run", type=expand_user_path, metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--allow-changed-code",
        action="store_true",
        help="continue if the network's code has changed since the fit, and note this in the output "
        "(default: report an error)",
    )


def check_figure_path(option: str, path: Path | None) -> None:
    """Raise PairsLitError if the file name of a figure does not end in a supported format; accept None."""
    if path is not None and path.suffix.lower() not in _FIGURE_SUFFIXES:
        raise PairsLitError(f"{option} must end in one of {', '.join(_FIGURE_SUFFIXES)}, got {path}.")


def check_output_paths(paths: Mapping[str, Path | None]) -> None:
    """Raise PairsLitError if an output file has a name that some system rejects, or two options name the same file.

    Args:
        paths: The file of each option, or None if the option was not given.
    """
    options: dict[str, str] = {}
    for option, path in paths.items():
        check_output_path(option, path)
        first = option if path is None else options.setdefault(fold_name(str(path.absolute())), option)
        if first != option:
            raise PairsLitError(f"{first} and {option} must be different files, got {path} for both.")


def write_or_print(text: str, output: Path | None) -> None:
    """Write text to the output file, or print it if there is none."""
    if output is None:
        print(text)
    else:
        write_text_atomically(output, text + "\n")
