"""The parser of ``compare`` and ``reproduce``: argparse's own, with errors in one line."""

import argparse
from typing import NoReturn

from pairs_lit.errors import PairsLitError


class OptionParser(argparse.ArgumentParser):
    """A parser that raises our errors."""

    def error(self, message: str) -> NoReturn:
        """Raise PairsLitError; argparse would print its usage and exit."""
        raise PairsLitError(f"{message} ({self.prog} --help lists the options).")
