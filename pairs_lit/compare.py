"""``pairs-lit compare``: any finished runs side by side, and every pair of them tested."""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pairs_lit.durable import write_text_durably
from pairs_lit.errors import PairsLitError, notice, printable
from pairs_lit.facts import read_data, readable
from pairs_lit.options import OptionParser
from pairs_lit.paths import user_path
from pairs_lit.results import METRIC_COLUMNS, RoundResult, read_rounds
from pairs_lit.significance import Difference, between_many, holm, mean_interval
from pairs_lit.stats import Summary, summarise

Format = Literal["text", "md", "csv", "latex"]
_FIGURES = (".png", ".svg", ".pdf")
_MUST_AGREE = {"source": "data source", "relation": "relation"}


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        label: A short name, different for every run compared.
        results: Its rounds.
        data: What was drawn: source, relation, counts and so on.
    """

    label: str
    results: Sequence[RoundResult]
    data: Mapping[str, Any]

    def values(self, metric: str) -> dict[int, float]:
        """Return a metric of the rounds that did not fail, by seed."""
        found = {result.seed: vars(result)[metric] for result in self.results if result.status == "ok"}
        return {seed: value for seed, value in found.items() if value is not None}

    @property
    def failed(self) -> int:
        """How many rounds failed."""
        return sum(result.status != "ok" for result in self.results)


@dataclass(frozen=True)
class Pair:
    """Two runs and how they differ; p_holm is corrected for all pairs that were compared."""

    first: str
    second: str
    difference: Difference
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """Runs, their summaries with the 95 % interval of the mean, and all pairs."""

    metric: str
    runs: Sequence[Run]
    pairs: Sequence[Pair]

    def summary(self, run: Run) -> tuple[Summary, tuple[float, float]]:
        """Summarise a run."""
        values = list(run.values(self.metric).values())
        return summarise(values), mean_interval(values)


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run folders; labels are the names of their configs, with the time where two would be the same.

    What holds no ``rounds.csv`` or no ``summary.json``, which is written last, is no finished run: where there are
    others, it is left out, and a notice says so.

    Raises:
        PairsLitError: A folder is damaged or none, or no run is finished.
    """
    needed = ("rounds.csv", "summary.json")
    unfinished = [
        folder for folder in folders if folder.exists() and not all((folder / name).is_file() for name in needed)
    ]
    if unfinished and len(unfinished) < len(folders):
        folders = [folder for folder in folders if folder not in unfinished]
        shown = ", ".join(printable(str(folder)) for folder in unfinished[:3])
        more = f" and {len(unfinished) - 3} more" if len(unfinished) > 3 else ""
        notice(f"left out, since they are no finished runs: {shown}{more}.")
    names = [folder.resolve().parent.name for folder in folders]
    labels = [
        name if names.count(name) == 1 else f"{name}/{folder.resolve().name}"
        for name, folder in zip(names, folders, strict=True)
    ]
    return [_read(folder, printable(label)) for folder, label in zip(folders, labels, strict=True)]


def _read(folder: Path, label: str) -> Run:
    with readable(folder):
        return Run(label, read_rounds(folder / "rounds.csv"), read_data(folder))


def compare(runs: Sequence[Run], metric: str) -> Comparison:
    """Compare every pair of runs by a metric of their rounds."""
    values = [_enough(run, metric) for run in runs] if len(runs) > 1 else []
    both = list(itertools.combinations(range(len(runs)), 2))
    found = between_many([(values[one], values[two], runs[one].data == runs[two].data) for one, two in both])
    corrected = holm([each.p for each in found])
    pairs = [
        Pair(runs[one].label, runs[two].label, each, p)
        for (one, two), each, p in zip(both, found, corrected, strict=True)
    ]
    return Comparison(metric, runs, pairs)


def _enough(run: Run, metric: str) -> dict[int, float]:
    values = run.values(metric)
    if len(values) < 2:
        raise PairsLitError(f"{run.label} has {len(values)} rounds with {metric}: a comparison needs 2 or more.")
    return values


def check_comparable(runs: Sequence[Run], metric: str, *, allow_different: bool) -> None:
    """Refuse to compare what answers different questions.

    Raises:
        PairsLitError: Data sources or relations differ, or a run does not have the metric.
    """
    for setting, words in _MUST_AGREE.items():
        values = {run.label: run.data.get(setting) for run in runs}
        if len(set(values.values())) > 1 and not allow_different:
            shown = ", ".join(f"{label}: {value}" for label, value in values.items())
            raise PairsLitError(f"the runs differ in their {words} ({shown}): add --allow-different to compare them.")
    lacking = [run.label for run in runs if not run.values(metric)]
    if lacking:
        common = [name for name in METRIC_COLUMNS if all(run.values(name) for run in runs)]
        raise PairsLitError(f"{lacking[0]} has no {metric}: all runs have {', '.join(common) or 'nothing in common'}.")


def arguments(args: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = OptionParser(
        prog="pairs-lit compare",
        description="Compare finished runs: n, mean, std, median, min, max and 95 % interval of each; every pair "
        "paired by seed where the runs share seeds and data settings, else by Welch's test.",
    )
    parser.add_argument("runs", nargs="+", type=user_path, metavar="RUN", help="a run folder")
    parser.add_argument("--metric", default="test_accuracy", choices=METRIC_COLUMNS, help="a column of rounds.csv")
    parser.add_argument("--format", default="text", choices=get_args(Format), help="of the tables")
    parser.add_argument("--output", type=user_path, help="write the tables to this file instead of the screen")
    parser.add_argument("--figure", type=user_path, help="draw every round as a point; .png, .svg or .pdf")
    parser.add_argument(
        "--allow-different", action="store_true", help="compare runs of different data sources or relations"
    )
    return parser.parse_args(args)


def run(args: Sequence[str]) -> None:
    """Run the command.

    Raises:
        PairsLitError: The user can mend something.
    """
    options = arguments(args)
    if options.figure is not None and options.figure.suffix not in _FIGURES:
        raise PairsLitError(f"--figure {options.figure}: its name must end in one of {', '.join(_FIGURES)}.")
    runs = read_runs(options.runs)
    check_comparable(runs, options.metric, allow_different=options.allow_different)
    comparison = compare(runs, options.metric)
    from pairs_lit.comparison_tables import show

    text = show(comparison, options.format)
    if options.output is None:
        print(text)
    else:
        write_text_durably(options.output, text + "\n")
    if options.figure is not None:
        from pairs_lit.figures import rounds_figure, save

        values = {run.label: list(run.values(options.metric).values()) for run in runs}
        save(rounds_figure(values, options.metric.replace("_", " ")), options.figure)
