"""``pairs-lit compare``: shows finished runs side by side and tests every two of them."""

from collections.abc import Sequence
from typing import get_args

from pairs_lit.analysis.comparison import METRICS, Format, compare, show
from pairs_lit.commands.option_parser import OptionParser, check_figure, give
from pairs_lit.runs.metrics import BY_COLUMN
from pairs_lit.system.paths import user_path


def parser() -> OptionParser:
    """Return the parser of the command line."""
    found = OptionParser(
        prog="pairs-lit compare",
        description="Compare finished runs: n, mean, std, median, min, max and 95 % interval of each. Every two of "
        "them are tested, paired by seed where they share seeds and data settings, else unpaired. A run is called "
        "better only if a t test and a rank test agree; failed rounds are counted.",
    )
    found.add_argument("runs", nargs="+", type=user_path, metavar="RUN", help="a run folder")
    found.add_argument("--metric", default="test_accuracy", choices=METRICS, help="a column of rounds.csv, or a loss")
    found.add_argument("--format", default="text", choices=get_args(Format), help="of the tables")
    found.add_argument(
        "--statistics",
        action="store_true",
        help="show interquartile means and the probability of superiority, too",
    )
    found.add_argument("--output", type=user_path, help="write the tables to this file instead of the screen")
    found.add_argument("--figure", type=user_path, help="draw every round as a point; .png, .svg or .pdf")
    found.add_argument(
        "--allow-different", action="store_true", help="compare runs of different data sources, relations or losses"
    )
    return found


def run(args: Sequence[str]) -> None:
    """Run the command."""
    options = parser().parse_args(args)
    check_figure("--figure", options.figure)
    comparison = compare(options.runs, options.metric, allow_different=options.allow_different)
    give(show(comparison, options.format, statistics=options.statistics), options.output)
    if options.figure is not None:
        from pairs_lit.analysis.figures import rounds_figure, save

        values = {run.label: list(run.values(options.metric).values()) for run in comparison.runs}
        save(rounds_figure(values, BY_COLUMN[options.metric].label), options.figure)
