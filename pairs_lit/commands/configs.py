"""``pairs-lit configs``: a list of the bundled configs."""

from collections.abc import Sequence

from pairs_lit.commands.option_parser import OptionParser
from pairs_lit.runs.shipped_configs import list_shipped_configs


def build_parser() -> OptionParser:
    """Build the argument parser of the command, which takes no arguments."""
    return OptionParser(
        prog="pairs-lit configs",
        description="List the bundled configs with a short description of each. --config takes these names in any "
        "folder, but prefers a file of that name in the current folder.",
    )


def run(args: Sequence[str]) -> None:
    """Run the command."""
    build_parser().parse_args(args)
    configs = list_shipped_configs()
    width = max(map(len, configs), default=0)
    for name, path in configs.items():
        comment = path.read_text(encoding="utf-8").partition("\n")[0]
        print(f"{name:<{width}}  {comment.removeprefix('#').strip()}")
