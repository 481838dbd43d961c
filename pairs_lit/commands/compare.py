"""``pairs-lit compare``: summary statistics of finished runs and tests of their differences."""

from collections.abc import Sequence
from typing import get_args

from pairs_lit.analysis.comparison import METRICS, TableFormat, compare, format_comparison
from pairs_lit.commands.option_parser import OptionParser, check_figure_path, check_output_paths, write_or_print
from pairs_lit.system.paths import expand_patterns, expand_user_path


def build_parser() -> OptionParser:
    """Build the argument parser of the command."""
    parser = OptionParser(
        prog="pairs-lit compare",
        description="Compare finished runs. The output lists n, mean, std, median, min, max and 95% confidence "
        "interval of each run and a test of every two of them: paired by seed if they share seeds and data settings, "
        "otherwise unpaired. A run is called better only if a t test and a rank test agree. Failures are reported.",
    )
    runs = "folders of the runs to compare, or patterns such as lightning_logs/fc/*"
    parser.add_argument("runs", nargs="+", metavar="RUN", help=runs)
    parser.add_argument(
        "--metric",
        default="test_accuracy",
        choices=METRICS,
        help="column of rounds.csv, or a loss (default: test_accuracy)",
    )
    parser.add_argument("--format", default="text", choices=get_args(TableFormat), help="output format (default: text)")
    parser.add_argument(
        "--statistics",
        action="store_true",
        help="also show interquartile means and the probability of superiority",
    )
    parser.add_argument("--output", type=expand_user_path, help="file to write the tables to (default: print them)")
    parser.add_argument(
        "--figure",
        type=expand_user_path,
        help="file (.png, .svg or .pdf) for a figure with one point per round",
    )
    parser.add_argument(
        "--allow-different",
        action="store_true",
        help="compare runs even if their data sources, relations or losses differ",
    )
    return parser


def run(args: Sequence[str]) -> None:
    """Run the command."""
    options = build_parser().parse_args(args)
    check_figure_path("--figure", options.figure)
    check_output_paths({"--output": options.output, "--figure": options.figure})
    runs = list(map(expand_user_path, expand_patterns(options.runs)))
    comparison = compare(runs, options.metric, allow_different=options.allow_different)
    write_or_print(format_comparison(comparison, options.format, statistics=options.statistics), options.output)
    if options.figure is not None:
        from pairs_lit.analysis.figures import save_figure

        save_figure(comparison.plot(), options.figure)
