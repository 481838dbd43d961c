"""Training time per round: a plain PyTorch loop, textbook Lightning, ``torch.func`` and pairs-lit.

``python benchmarks/training_speed.py`` prints one table and writes ``docs/speed.md``, ``.csv`` and ``.png``. Each
method runs in its own process, as a user would start it, and the methods take turns. Every time is the median over the
epochs of all repeats, without the first epoch of each repeat, in milliseconds per round and epoch. With
``--conditions idle busy``, everything is measured twice: on the idle machine, and with one busy process per core.
``--draw`` measures nothing and draws the figure again from the CSV file. MNIST is read from ``PAIRS_LIT_DATA``.
"""

import argparse
import contextlib
import csv
import logging
import multiprocessing
import os
import platform
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median, stdev

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from tabulate import tabulate

from background_load import keep_cores_busy
from baselines import METHODS, Timing
from figure_style import INK, apply_style, create_figure
from lower_bound import compute_lower_bound, measure_peaks
from networks import NETWORKS
from pairs_lit.analysis.figures import save_figure
from pairs_lit.runs.atomic_write import write_text_atomically
from pairs_lit.runs.tables import write_csv
from pairs_lit.system.memory import get_peak_memory

DOCS = Path(__file__).parent.parent / "docs"
STACKED_METHODS = ("functional", "pairs-lit")
"""The methods whose time per round depends on the number of rounds."""
TITLES = {
    "plain": "plain loop",
    "lightning": "textbook Lightning",
    "functional": "torch.func",
    "pairs-lit": "pairs-lit",
}
COLOURS = {"plain": "#2B8CC4", "lightning": "#E69F00", "functional": "#009E73", "pairs-lit": "#D55E00"}
MAX_REPEATED_ROUNDS = 50
"""A case with more rounds than this is measured in one repeat only."""


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        network: Key of NETWORKS.
        method: Key of CONTENDERS.
        rounds: Number of rounds trained.
        threads: Number of torch threads. pairs-lit starts one worker per core in addition.
        condition: ``idle`` or ``busy``.
    """

    network: str
    method: str
    rounds: int
    threads: int
    condition: str = "idle"


def measure(case: Case, device: str, epochs: int | None = None) -> Timing:
    """Train the rounds of a case. Runs in the method's own process."""
    epochs = epochs or NETWORKS[case.network].epochs
    torch.set_num_threads(case.threads)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    with contextlib.redirect_stderr(open(os.devnull, "w", encoding="utf-8")):  # noqa: PTH123 - silences Lightning's notices
        return METHODS[case.method](case.network, range(case.rounds), epochs, device)


def measure_memory(network: str, rounds: int, device: str) -> float:
    """Return the peak memory, in MB, of a fresh process that trains this many rounds with pairs-lit."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as worker:
        worker.submit(measure, Case(network, "pairs-lit", rounds, 1), device, 1).result()
        return worker.submit(get_peak_memory).result()


def list_cases(
    network: str, rounds: Sequence[int], conditions: Sequence[str] = ("idle",), *, functional: bool = True
) -> list[Case]:
    """Return all measurements of a network, grouped by condition.

    ``torch.func`` is left out under background load, where it would take minutes.
    """
    names = list_methods(network, functional=functional)
    selected = [
        replace(case, condition=condition)
        for condition in conditions
        for case in _list_cases_of_condition(network, rounds)
    ]
    return [case for case in selected if case.method in names and (case.method, case.condition) != _SKIPPED_CASE]


_SKIPPED_CASE = "functional", "busy"


def list_methods(network: str, *, functional: bool) -> list[str]:
    """Return the methods that train a network.

    ``torch.func`` is left out for classes with many convolutions, where it would take hours.
    """
    return [name for name in METHODS if name != "functional" or (functional and NETWORKS[network].network_path is None)]


def _list_cases_of_condition(network: str, rounds: Sequence[int]) -> list[Case]:
    """Return the measurements of one condition.

    The loops train one round, the plain one with one thread and with all threads. Each worker of pairs-lit has one
    thread.
    """
    most = max(2, torch.get_num_threads())
    loops = [Case(network, "plain", 1, threads) for threads in (1, most)]
    loops.append(Case(network, "lightning", 1, most))
    few = [count for count in rounds if count in (1, 20)]
    loops += [Case(network, "functional", count, most) for count in few]
    return loops + [Case(network, "pairs-lit", count, 1) for count in rounds]


@contextlib.contextmanager
def start_processes() -> Iterator[dict[str, ProcessPoolExecutor]]:
    """Start one process per method."""
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(ProcessPoolExecutor(1, context)) for name in METHODS}


def measure_cases(
    todo: Sequence[Case], workers: dict[str, ProcessPoolExecutor], options: argparse.Namespace
) -> dict[Case, list[Timing]]:
    """Measure the cases one after another in each repeat, those with very many rounds in the first repeat only."""
    runs: dict[Case, list[Timing]] = {case: [] for case in todo}
    for repeat in range(options.repeats):
        for case in todo:
            if repeat > 0 and case.rounds > MAX_REPEATED_ROUNDS:
                continue
            with keep_cores_busy(case.condition == "busy"):
                timing = workers[case.method].submit(measure, case, options.device).result()
            runs[case].append(timing)
            print(f"{case}: {1e3 * median(timing.seconds):.1f} ms", flush=True)
    return runs


@dataclass(frozen=True)
class TableRow:
    """One row of the table. Times are (median, min, max) in milliseconds per round and epoch.

    Attributes:
        network: Key of NETWORKS.
        rounds: Number of rounds trained side by side.
        times: Time of each method.
        lower_bound: Lower bound for this machine, in milliseconds.
        threads: Number of threads with which the plain loop was fastest.
        has_same_accuracy: Whether the plain and the stacked rounds reached the same test accuracy up to noise.
        condition: ``idle`` or ``busy``.
    """

    network: str
    rounds: int
    times: dict[str, tuple[float, float, float]]
    lower_bound: float
    threads: int
    has_same_accuracy: bool
    condition: str = "idle"

    def compute_ratio(self, contender: str) -> float:
        """Return how many times faster pairs-lit is than another method."""
        return self.times[contender][0] / self.times["pairs-lit"][0]


def compute_spread(runs: Sequence[Timing]) -> tuple[float, float, float]:
    """Return median, min and max over all epochs, in milliseconds."""
    values = [1e3 * value for run in runs for value in run.seconds]
    return median(values), min(values), max(values)


def has_same_mean(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether the means of two samples of test accuracies agree within three standard errors."""
    error = (stdev(one) ** 2 / len(one) + stdev(other) ** 2 / len(other)) ** 0.5
    return bool(abs(mean(one) - mean(other)) <= 3 * error)


def build_rows(found: dict[Case, list[Timing]], reached: Sequence[Timing], least: float) -> list[TableRow]:
    """Build the rows of one network: one for each condition and number of rounds."""
    same = all(has_same_mean(reached[0].accuracy, other.accuracy) for other in reached[1:])
    return [
        line
        for condition in dict.fromkeys(case.condition for case in found)
        for line in _build_rows_of_condition(
            {case: runs for case, runs in found.items() if case.condition == condition}, least, same
        )
    ]


def _build_rows_of_condition(found: dict[Case, list[Timing]], least: float, same: bool) -> list[TableRow]:
    network, condition = (getattr(next(iter(found)), name) for name in ("network", "condition"))
    loops = {case: compute_spread(runs) for case, runs in found.items() if case.method == "plain"}
    best = min(loops, key=lambda case: loops[case][0])
    (textbook,) = (compute_spread(runs) for case, runs in found.items() if case.method == "lightning")
    table = []
    for count in sorted({case.rounds for case in found if case.method in STACKED_METHODS}):
        stacked = {
            case.method: compute_spread(runs)
            for case, runs in found.items()
            if case.method in STACKED_METHODS and case.rounds == count
        }
        times = stacked | {"plain": loops[best], "lightning": textbook}
        table.append(TableRow(network, count, times, 1e3 * least, best.threads, same, condition))
    return table


def measure_accuracies(
    network: str, workers: dict[str, ProcessPoolExecutor], options: argparse.Namespace
) -> list[Timing]:
    """Train the same few rounds with every method."""
    most = max(2, torch.get_num_threads())
    names = list_methods(network, functional=options.functional)
    todo = [Case(network, name, options.checked, 1 if name == "pairs-lit" else most) for name in names]
    jobs = [workers[case.method].submit(measure, case, options.device) for case in todo]
    return [job.result() for job in jobs]


def format_row(line: TableRow) -> list[object]:
    """Return the cells of one row: medians with their ranges, then the ratios."""
    times = [_format_time(line.times[name]) if name in line.times else "–" for name in TITLES]
    ratios = [f"{line.compute_ratio('plain'):.1f}", f"{line.compute_ratio('lightning'):.1f}"]
    above = f"{line.times['pairs-lit'][0] / line.lower_bound:.1f}"
    agreement = "yes" if line.has_same_accuracy else "NO"
    title = NETWORKS[line.network].title
    return [title, line.condition, line.rounds, *times, *ratios, f"{line.lower_bound:.1f}", above, agreement]


def _format_time(time: tuple[float, float, float]) -> str:
    return f"{time[0]:.1f} ({time[1]:.1f} to {time[2]:.1f})"


HEADER = [
    "network",
    "machine",
    "rounds",
    *TITLES.values(),
    "plain loop / pairs-lit",
    "Lightning / pairs-lit",
    "lower bound",
    "pairs-lit / lower bound",
    "same accuracy",
]

COLUMNS = ["network", "machine", "rounds", "contender", "threads", "median_ms", "min_ms", "max_ms", "floor_ms", "agree"]
"""The columns of the CSV file."""


def build_csv_rows(table: Sequence[TableRow]) -> Iterator[tuple[object, ...]]:
    """Yield one row of the CSV file for each line and method."""
    for line in table:
        for name, (middle, low, high) in line.times.items():
            threads = line.threads if name == "plain" else ""
            yield (
                line.network,
                line.condition,
                line.rounds,
                name,
                threads,
                middle,
                low,
                high,
                line.lower_bound,
                line.has_same_accuracy,
            )


def read_rows(rows: Iterable[Mapping[str, str]]) -> list[TableRow]:
    """Return the lines that :func:`build_csv_rows` wrote."""
    groups: dict[tuple[str, str, str], list[Mapping[str, str]]] = {}
    for cells in rows:
        groups.setdefault((cells["network"], cells["machine"], cells["rounds"]), []).append(cells)
    table = []
    for (network, condition, rounds), group in groups.items():
        times = {
            cells["contender"]: (float(cells["median_ms"]), float(cells["min_ms"]), float(cells["max_ms"]))
            for cells in group
        }
        (threads,) = (int(cells["threads"]) for cells in group if cells["contender"] == "plain")
        first = group[0]
        table.append(
            TableRow(
                network, int(rounds), times, float(first["floor_ms"]), threads, first["agree"] == "True", condition
            )
        )
    return table


def draw_figure(table: Sequence[TableRow]) -> Figure:
    """Draw the time per round and epoch on the idle machine against the number of rounds, one panel per network."""
    table = [line for line in table if line.condition == "idle"] or table
    names = list(dict.fromkeys(line.network for line in table))
    columns = min(2, len(names))
    depth = -(-len(names) // columns)
    drawing = create_figure(0.9 + 1.75 * depth if columns > 1 else 3.2)
    panels = drawing.subplots(depth, columns, squeeze=False).flatten()
    for axes in panels[len(names) :]:
        axes.remove()
    for place, (name, axes) in enumerate(zip(names, panels, strict=False)):
        chosen = [line for line in table if line.network == name]
        for contender, title in TITLES.items():
            measured = [line for line in chosen if contender in line.times]
            if not measured:
                continue
            values = [line.times[contender] for line in measured]
            middles = [value[0] for value in values]
            errors = [[value[0] - value[1] for value in values], [value[2] - value[0] for value in values]]
            counts = [line.rounds for line in measured]
            axes.errorbar(
                counts, middles, errors, marker="o", markersize=4, capsize=2, color=COLOURS[contender], label=title
            )
        axes.axhline(chosen[0].lower_bound, color=INK, linestyle=":", label="lower bound")
        counts = sorted({line.rounds for line in chosen})
        axes.set_title(NETWORKS[name].title, size=10)
        axes.set(xscale="log", yscale="log", xlabel="rounds" if place >= len(names) - columns else "")
        if place % columns == 0:
            axes.set_ylabel("ms")
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.15)
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 30 * low else (1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        apply_style(axes)
    handles, labels = drawing.axes[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside upper center", ncols=3, labelcolor=INK, frameon=False, fontsize=9)
    return drawing


def render_report(table: Sequence[TableRow], notes: Sequence[str]) -> str:
    """Return the table and the notes on the measurement, in Markdown."""
    text = tabulate([format_row(line) for line in table], HEADER, tablefmt="github", disable_numparse=True)
    return f"{text}\n\n## How this was measured\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def describe_setup(options: argparse.Namespace, multiplied: float, copied: float) -> list[str]:
    """Return notes on the measurement: unit, methods, machine, check of the accuracy."""
    machine = torch.cuda.get_device_name() if options.device == "cuda" else f"{os.cpu_count()} cores"
    repeats = f"{options.repeats} interleaved repeat" + "s" * (options.repeats != 1)
    unit = (
        "**Unit.** Milliseconds per round and epoch, that is training plus the evaluation of 1,000 validation and "
        f"1,000 test pairs: median (min to max) over the epochs of {repeats} of 3 epochs (5 or 8 epochs for fast "
        "networks, 7 for ResNet-18). The first epoch of each repeat is left out. Cases with more than "
        f"{MAX_REPEATED_ROUNDS} rounds "
        "are measured in one repeat, torch.func with 1 and 20 rounds on the idle machine only. Data: MNIST (for "
        "ResNet-18, 100 pairs of each kind)."
    )
    methods = (
        "**Methods.** Each method has its own process. The plain loop and Lightning train one round at a time, so "
        "their time per round does not depend on the number of rounds. The plain loop is the faster of one thread "
        "and all threads. pairs-lit has one worker per core with one thread each, which is its default. The others "
        "use all threads. *Busy* means that one other busy process runs per core."
    )
    speeds = f"{multiplied / 1e9:.0f} GFLOP/s (matrix product), {copied / 1e9:.0f} GB/s (copy)"
    setup = (
        f"**Machine.** {machine}, {platform.machine()}, torch {torch.__version__}. Peaks measured in this run: "
        f"{speeds}. The lower bound is the larger of operations / peak and least memory traffic / peak."
    )
    accuracy = (
        f"**Same accuracy.** *Yes* if, for every method, the test accuracies of {options.checked} rounds agree with "
        "the plain loop's within three standard errors after equally many epochs."
    )
    return [unit, methods, setup, accuracy]


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="networks to measure (default: all)"
    )
    parser.add_argument(
        "--rounds",
        nargs="+",
        type=int,
        default=[1, 10, 20, 100],
        help="numbers of rounds trained side by side (default: 1 10 20 100)",
    )
    conditions = "idle: no other load; busy: with one busy process per core (default: both)"
    parser.add_argument("--conditions", nargs="+", choices=["idle", "busy"], default=["idle", "busy"], help=conditions)
    parser.add_argument(
        "--functional",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure torch.func, too (default: yes)",
    )
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repeats (default: 3)")
    parser.add_argument(
        "--checked", type=int, default=8, help="rounds whose accuracies are compared, 2 or more (default: 8)"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="device to train on (default: cpu)")
    parser.add_argument(
        "--output", type=Path, default=DOCS / "speed", help="files to write, without suffix (default: docs/speed)"
    )
    parser.add_argument("--draw", action="store_true", help="measure nothing, draw the figure from the CSV file")
    return parser.parse_args()


def render_page(table: Sequence[TableRow], notes: Sequence[str], name: str) -> str:
    """Return the page in Markdown: what was measured, the figure ``<name>.png``, the table and the notes."""
    titles = list(dict.fromkeys(NETWORKS[line.network].title for line in table))
    title = titles[0] if len(titles) == 1 else "training per round"
    return (
        f"# Speed: {title}\n\nA [round](concepts.md) is one training run from one seed. How long does it take in a "
        "hand-written PyTorch loop, in Lightning as its guides write it, and in pairs-lit, which trains many rounds "
        "side by side? The *lower bound* is the time that this machine's arithmetic and memory need at "
        "least.\n\n![Milliseconds per round and epoch on the idle machine against the number of rounds: median, min "
        f"and max]({name}.png)\n\n*Milliseconds per round and epoch on the idle machine. Points are medians, bars "
        f"reach from min to max.*\n\n{render_report(table, notes)}"
    )


def write_files(table: Sequence[TableRow], notes: Sequence[str], output: Path) -> None:
    """Write the results measured so far.

    The page is written last, so that it never describes more than the CSV file and the figure hold.
    """
    write_csv(output.with_suffix(".csv"), COLUMNS, build_csv_rows(table))
    save_figure(draw_figure(table), output.with_suffix(".png"))
    write_text_atomically(output.with_suffix(".md"), render_page(table, notes, output.name))


def describe_memory(network: str, device: str) -> str:
    """Measure how memory grows with the number of rounds, and return a note on it."""
    few, many = (measure_memory(network, count, device) for count in (4, 20))
    return (
        f"**Memory of {NETWORKS[network].title}.** {many:.0f} MB for 20 rounds, {(many - few) / 16:.1f} MB for each "
        "further round."
    )


def main() -> None:
    """Measure, print, and write the files after each network."""
    options = parse_arguments()
    if options.draw:
        with options.output.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
            save_figure(draw_figure(read_rows(csv.DictReader(file))), options.output.with_suffix(".png"))
        return
    multiplied, copied = measure_peaks(options.device)
    table, notes = [], describe_setup(options, multiplied, copied)
    for network in options.networks:
        with start_processes() as workers:
            measured = measure_cases(
                list_cases(network, options.rounds, options.conditions, functional=options.functional), workers, options
            )
            reached = measure_accuracies(network, workers, options)
        table += build_rows(measured, reached, compute_lower_bound(network, multiplied, copied))
        notes.append(describe_memory(network, options.device))
        write_files(table, notes, options.output)
    print(f"\n{render_report(table, notes)}")


if __name__ == "__main__":
    main()
