"""What the commands with a parser of their own share: argparse's, with errors in one line, and where answers go."""

import argparse
import re
from pathlib import Path
from typing import NoReturn

from pairs_lit.errors import PairsLitError
from pairs_lit.runs.atomic_write import write_text_durably
from pairs_lit.system.paths import user_path
from pairs_lit.text import meant

_FIGURES = (".png", ".svg", ".pdf")


class OptionParser(argparse.ArgumentParser):
    """A parser that raises our errors."""

    def error(self, message: str) -> NoReturn:
        """Raise PairsLitError; argparse would print its usage and exit."""
        unknown = re.search(r"unrecognized arguments: ([\w-]+)|invalid choice: '(.*?)' \(choose from (.*)\)", message)
        near = ""
        if unknown is not None:
            known = [option.dest for option in self._actions] if unknown[1] else re.findall(r"\w+", unknown[3])
            near = meant(unknown[1] or unknown[2], known)
        raise PairsLitError(f"{message}{near} ({self.prog} --help lists the options).")


def add_run(parser: OptionParser) -> None:
    """Add the run, and the option of the commands that use its networks."""
    parser.add_argument("run", type=user_path, metavar="RUN", help="a run folder")
    parser.add_argument(
        "--allow-changed-code",
        action="store_true",
        help="continue although the network's code has changed since the fit, and say so in what is written",
    )


def check_figure(option: str, path: Path | None) -> None:
    """Refuse a figure's file, if one is asked for, whose name does not say a format that can be drawn."""
    if path is not None and path.suffix not in _FIGURES:
        raise PairsLitError(f"{option} {path}: its name must end in one of {', '.join(_FIGURES)}.")


def give(text: str, output: Path | None) -> None:
    """Write a text to the file that was asked for, or show it."""
    if output is None:
        print(text)
    else:
        write_text_durably(output, text + "\n")
