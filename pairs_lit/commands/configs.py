"""``pairs-lit configs``: the configs that come with the package, one line each."""

from collections.abc import Sequence

from pairs_lit.commands.option_parser import OptionParser
from pairs_lit.runs.shipped_configs import shipped_configs


def parser() -> OptionParser:
    """Return the parser of the command line: there are no arguments."""
    return OptionParser(
        prog="pairs-lit configs",
        description="List the configs that come with pairs-lit, each by the name that --config takes in any folder, "
        "and what it is. A file of your own with that name comes first.",
    )


def run(args: Sequence[str]) -> None:
    """Run the command."""
    parser().parse_args(args)
    configs = shipped_configs()
    width = max(map(len, configs), default=0)
    for name, path in configs.items():
        comment = path.read_text(encoding="utf-8").partition("\n")[0]
        print(f"{name:<{width}}  {comment.removeprefix('#').strip()}")
