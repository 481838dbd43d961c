"""The parser of the commands that train nothing themselves: stock, but its errors are one line."""

import argparse
from typing import NoReturn

from pairs_lit.errors import PairsLitError


class OptionParser(argparse.ArgumentParser):
    """A parser whose errors are ours."""

    def error(self, message: str) -> NoReturn:
        """Raise PairsLitError, where argparse would print its usage and leave."""
        raise PairsLitError(f"{message} ({self.prog} --help lists the options).")
