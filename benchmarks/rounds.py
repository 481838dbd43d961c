"""How long a round takes: a plain loop, textbook Lightning, torch.func and pairs-lit, side by side.

``python benchmarks/rounds.py`` prints one table and writes it with a figure: ``docs/speed.md``, ``.csv``, ``.png``.
Each contender works in a process of its own, as a user would start it; their measurements alternate. A figure is the
median over the epochs of all repeats, the first epoch of each repeat left out, in milliseconds per round and epoch.
With ``--conditions idle busy`` all is measured twice: on the machine as it is, and beside one busy process a core.
MNIST is read from ``PAIRS_LIT_DATA``.
"""

import argparse
import contextlib
import logging
import multiprocessing
import os
import platform
import resource
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median, stdev

import torch
from matplotlib.figure import Figure
from tabulate import tabulate

from busy import busy
from contenders import CONTENDERS, Timing
from floor import floor, peaks
from networks import NETWORKS
from pairs_lit.analysis.figures import save
from pairs_lit.runs.atomic_write import write_text_durably
from pairs_lit.runs.tables import write_csv

DOCS = Path(__file__).parent.parent / "docs"
STACKED = ("functional", "pairs-lit")
"""The contenders whose time a round depends on the number of rounds."""
TITLES = {
    "plain": "plain loop",
    "lightning": "textbook Lightning",
    "functional": "torch.func",
    "pairs-lit": "pairs-lit",
}
COLOURS = {"plain": "#0072B2", "lightning": "#E69F00", "functional": "#009E73", "pairs-lit": "#D55E00"}
MANY = 50
"""Above so many rounds, a case is measured in one repeat."""


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
        network: Its name in NETWORKS.
        contender: Its name in CONTENDERS.
        rounds: How many rounds are trained.
        threads: Of torch; pairs-lit starts as many workers as there are cores.
        condition: ``idle`` or ``busy``.
    """

    network: str
    contender: str
    rounds: int
    threads: int
    condition: str = "idle"


def measure(case: Case, device: str, epochs: int | None = None) -> Timing:
    """Train the rounds of a case; runs in the contender's own process."""
    epochs = epochs or NETWORKS[case.network].epochs
    torch.set_num_threads(case.threads)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    with contextlib.redirect_stderr(open(os.devnull, "w")):  # noqa: PTH123 - Lightning's notes
        return CONTENDERS[case.contender](case.network, range(case.rounds), epochs, device)


def memory(network: str, rounds: int, device: str) -> float:
    """Return the most memory, in MB, that a fresh process needs to train so many rounds as pairs-lit does."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as worker:
        worker.submit(measure, Case(network, "pairs-lit", rounds, 1), device, 1).result()
        return worker.submit(_peak).result()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cases(
    network: str, rounds: Sequence[int], conditions: Sequence[str] = ("idle",), *, functional: bool = True
) -> list[Case]:
    """Return what is measured of a network, condition after condition; torch.func would take minutes when busy."""
    names = contenders(network, functional=functional)
    found = [replace(case, condition=each) for each in conditions for case in _cases(network, rounds)]
    return [case for case in found if case.contender in names and (case.contender, case.condition) != _TOO_SLOW]


_TOO_SLOW = "functional", "busy"


def contenders(network: str, *, functional: bool) -> list[str]:
    """Return who trains a network; torch.func would take hours for classes of many convolutions."""
    return [name for name in CONTENDERS if name != "functional" or (functional and NETWORKS[network].whole is None)]


def _cases(network: str, rounds: Sequence[int]) -> list[Case]:
    """The loops train one round, on one thread and on all; each worker of pairs-lit computes on one."""
    most = max(2, torch.get_num_threads())
    loops = [Case(network, "plain", 1, threads) for threads in (1, most)]
    loops.append(Case(network, "lightning", 1, most))
    few = [count for count in rounds if count in (1, 20)]
    loops += [Case(network, "functional", count, most) for count in few]
    return loops + [Case(network, "pairs-lit", count, 1) for count in rounds]


@contextlib.contextmanager
def processes() -> Iterator[dict[str, ProcessPoolExecutor]]:
    """Give each contender a process of its own."""
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(ProcessPoolExecutor(1, context)) for name in CONTENDERS}


def timings(
    todo: Sequence[Case], workers: dict[str, ProcessPoolExecutor], options: argparse.Namespace
) -> dict[Case, list[Timing]]:
    """Measure all cases in turn, again and again; those of very many rounds once."""
    found: dict[Case, list[Timing]] = {case: [] for case in todo}
    for repeat in range(options.repeats):
        for case in todo:
            if repeat > 0 and case.rounds > MANY:
                continue
            with busy(case.condition == "busy"):
                timing = workers[case.contender].submit(measure, case, options.device).result()
            found[case].append(timing)
            print(f"{case}: {1e3 * median(timing.seconds):.1f} ms", flush=True)
    return found


@dataclass(frozen=True)
class Line:
    """One line of the table; times are (median, min, max) in milliseconds per round and epoch.

    Attributes:
        network: Its name in NETWORKS.
        rounds: How many rounds train side by side.
        times: By contender.
        floor: What the machine could do, in milliseconds.
        threads: With how many threads the plain loop was faster.
        agree: Whether plain and stacked rounds reached the same test accuracy within noise.
        condition: ``idle`` or ``busy``.
    """

    network: str
    rounds: int
    times: dict[str, tuple[float, float, float]]
    floor: float
    threads: int
    agree: bool
    condition: str = "idle"

    def ratio(self, contender: str) -> float:
        """Say how many times faster than a contender pairs-lit is."""
        return self.times[contender][0] / self.times["pairs-lit"][0]


def spread(runs: Sequence[Timing]) -> tuple[float, float, float]:
    """Return median, min and max of all epochs in milliseconds."""
    values = [1e3 * value for run in runs for value in run.seconds]
    return median(values), min(values), max(values)


def agree(one: Sequence[float], other: Sequence[float]) -> bool:
    """Say whether two samples of test accuracies have the same mean, within three standard errors."""
    error = (stdev(one) ** 2 / len(one) + stdev(other) ** 2 / len(other)) ** 0.5
    return bool(abs(mean(one) - mean(other)) <= 3 * error)


def lines(found: dict[Case, list[Timing]], reached: Sequence[Timing], least: float) -> list[Line]:
    """Put the measurements of one network together, a line for each condition and number of rounds."""
    same = all(agree(reached[0].accuracy, other.accuracy) for other in reached[1:])
    return [
        line
        for condition in dict.fromkeys(case.condition for case in found)
        for line in _lines({case: runs for case, runs in found.items() if case.condition == condition}, least, same)
    ]


def _lines(found: dict[Case, list[Timing]], least: float, same: bool) -> list[Line]:
    network, condition = (getattr(next(iter(found)), name) for name in ("network", "condition"))
    loops = {case: spread(runs) for case, runs in found.items() if case.contender == "plain"}
    best = min(loops, key=lambda case: loops[case][0])
    (textbook,) = (spread(runs) for case, runs in found.items() if case.contender == "lightning")
    table = []
    for count in sorted({case.rounds for case in found if case.contender in STACKED}):
        stacked = {
            case.contender: spread(runs)
            for case, runs in found.items()
            if case.contender in STACKED and case.rounds == count
        }
        times = stacked | {"plain": loops[best], "lightning": textbook}
        table.append(Line(network, count, times, 1e3 * least, best.threads, same, condition))
    return table


def accuracies(network: str, workers: dict[str, ProcessPoolExecutor], options: argparse.Namespace) -> list[Timing]:
    """Train the same few rounds in all four ways."""
    most = max(2, torch.get_num_threads())
    names = contenders(network, functional=options.functional)
    todo = [Case(network, name, options.checked, 1 if name == "pairs-lit" else most) for name in names]
    jobs = [workers[case.contender].submit(measure, case, options.device) for case in todo]
    return [job.result() for job in jobs]


def row(line: Line) -> list[object]:
    """Show one line: medians with their range, and the ratios."""
    shown = [_time(line.times[name]) if name in line.times else "–" for name in TITLES]
    plain, textbook = NETWORKS[line.network].goals
    ratios = [f"{line.ratio('plain'):.1f}", f"{line.ratio('lightning'):.1f}"]
    if line.rounds == 20 and line.condition == "idle":
        ratios[0] += f" (goal {plain})"
        ratios[1] += f" (goal {textbook})" if textbook is not None else ""
    above = f"{line.times['pairs-lit'][0] / line.floor:.1f}"
    agreement = "yes" if line.agree else "NO"
    title = NETWORKS[line.network].title
    return [title, line.condition, line.rounds, *shown, *ratios, f"{line.floor:.1f}", above, agreement]


def _time(time: tuple[float, float, float]) -> str:
    return f"{time[0]:.1f} ({time[1]:.1f} to {time[2]:.1f})"


HEADER = [
    "network",
    "machine",
    "rounds",
    *TITLES.values(),
    "× plain",
    "× Lightning",
    "floor",
    "× floor",
    "same accuracy",
]


def csv_rows(table: Sequence[Line]) -> Iterator[tuple[object, ...]]:
    """Yield one row for each line and contender."""
    for line in table:
        for name, (middle, low, high) in line.times.items():
            threads = line.threads if name == "plain" else ""
            yield line.network, line.condition, line.rounds, name, threads, middle, low, high, line.floor, line.agree


def figure(table: Sequence[Line]) -> Figure:
    """Draw the time of a round-epoch on the idle machine against the number of rounds, a panel for each network."""
    table = [line for line in table if line.condition == "idle"] or table
    names = list(dict.fromkeys(line.network for line in table))
    drawing = Figure(figsize=(11, 6.5), layout="constrained")
    for place, name in enumerate(names):
        axes = drawing.add_subplot(2, (len(names) + 1) // 2, place + 1)
        chosen = [line for line in table if line.network == name]
        for contender, title in TITLES.items():
            measured = [line for line in chosen if contender in line.times]
            values = [line.times[contender] for line in measured]
            middles = [value[0] for value in values]
            errors = [[value[0] - value[1] for value in values], [value[2] - value[0] for value in values]]
            counts = [line.rounds for line in measured]
            axes.errorbar(counts, middles, errors, marker="o", capsize=2, color=COLOURS[contender], label=title)
        axes.axhline(chosen[0].floor, color="0.5", linestyle=":", label="floor")
        axes.set(title=NETWORKS[name].title, xscale="log", yscale="log", xlabel="rounds", ylabel="ms a round-epoch")
        axes.grid(alpha=0.3, which="both")
    drawing.axes[0].legend(fontsize="small")
    return drawing


def report(table: Sequence[Line], notes: Sequence[str]) -> str:
    """Return the table and what it was measured with, in Markdown."""
    shown = tabulate([row(line) for line in table], HEADER, tablefmt="github", disable_numparse=True)
    return f"{shown}\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def facts(options: argparse.Namespace, multiplied: float, copied: float) -> list[str]:
    """Say what everything was measured with."""
    machine = torch.cuda.get_device_name() if options.device == "cuda" else f"{os.cpu_count()} cores"
    return [
        "Milliseconds per round and epoch (training, then evaluation of 1,000 validation and 1,000 test pairs): "
        f"median (min to max) over the epochs of {options.repeats} interleaved repeats of 3 epochs (quick networks: 5 "
        f"or 8, ResNet-18: 7), the first of each left out; more than {MANY} rounds: one repeat; torch.func, where "
        "given: 1 and 20 rounds, idle. Data: MNIST (ResNet-18: with 100 pairs each).",
        "The loops train one round at a time, so their time a round does not depend on the number of rounds; the plain "
        "loop is the better of one thread and all, pairs-lit has a worker of one thread a core, as by default, the "
        "others compute on all. Each contender has a process of its own. Busy: beside one busy process a core.",
        f"Machine: {machine}, {platform.machine()}, torch {torch.__version__}; peaks measured in this run: "
        f"{multiplied / 1e9:.0f} GFLOP/s (matrix product), {copied / 1e9:.0f} GB/s (copy). The floor is the larger of "
        "operations / peak and least memory traffic / peak.",
        f"Same accuracy: the test accuracies of {options.checked} rounds after as many epochs agree with the "
        "plain loop's within three standard errors, for every contender.",
    ]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="which networks")
    parser.add_argument("--rounds", nargs="+", type=int, default=[1, 10, 20, 100], help="how many rounds side by side")
    conditions = "idle: the machine as it is; busy: beside one busy process a core"
    parser.add_argument("--conditions", nargs="+", choices=["idle", "busy"], default=["idle", "busy"], help=conditions)
    parser.add_argument("--functional", action=argparse.BooleanOptionalAction, default=True, help="torch.func, too")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repeats")
    parser.add_argument("--checked", type=int, default=8, help="rounds whose accuracies are compared, 2 or more")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to train")
    parser.add_argument("--output", type=Path, default=DOCS / "speed", help="files to write, without their endings")
    return parser.parse_args()


def write(table: Sequence[Line], notes: Sequence[str], output: Path) -> None:
    """Write what is known so far; the Markdown last, so that it never describes more than the figures show."""
    columns = [
        "network",
        "machine",
        "rounds",
        "contender",
        "threads",
        "median_ms",
        "min_ms",
        "max_ms",
        "floor_ms",
        "agree",
    ]
    write_csv(output.with_suffix(".csv"), columns, csv_rows(table))
    save(figure(table), output.with_suffix(".png"))
    write_text_durably(output.with_suffix(".md"), f"# Speed: rounds side by side\n\n{report(table, notes)}")


def memory_note(network: str, device: str) -> str:
    """Measure how memory grows with the rounds, and say it."""
    few, many = (memory(network, count, device) for count in (4, 20))
    return f"{NETWORKS[network].title}: {(many - few) / 16:.1f} MB a round more, {many:.0f} MB for 20 rounds in all."


def main() -> None:
    """Measure, print, write after each network."""
    options = arguments()
    multiplied, copied = peaks(options.device)
    table, notes = [], facts(options, multiplied, copied)
    for network in options.networks:
        with processes() as workers:
            found = timings(
                cases(network, options.rounds, options.conditions, functional=options.functional), workers, options
            )
            reached = accuracies(network, workers, options)
        table += lines(found, reached, floor(network, multiplied, copied))
        notes.append(memory_note(network, options.device))
        write(table, notes, options.output)
    print(f"\n{report(table, notes)}")


if __name__ == "__main__":
    main()
