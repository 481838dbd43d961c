"""Time of a sweep of 10 values of α × 10 seeds: as a sweep, as ten fits, and in a plain loop.

``python benchmarks/sweep.py`` prints one table and writes ``docs/sweep-speed.md``. Each measurement is a new
process, timed from the shell prompt to its end; those of one network take turns. The plain loop is extrapolated from a
few rounds, because all its rounds take equally long. MNIST is read from ``PAIRS_LIT_DATA``.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import yaml
from tabulate import tabulate

from job import time_command
from networks import CONFIGS
from pairs_lit.runs.atomic_write import write_text_atomically
from pairs_lit.system.memory import get_peak_memory

HERE = Path(__file__).parent
VALUES = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 4.0]
SEEDS = 10
ALPHA = "model.loss.aux_weight"
NETWORKS = {"fc": "fc_aux.yaml", "cnn_aux": "cnn_aux.yaml", "net2": "reports/hakobyan/net2.yaml"}
PLAIN_LOOP_CODE = (
    "import baselines, torch; torch.set_num_threads({}); baselines.train_plain('{}', range({}), {}, 'cpu')"
)


def build_command(name: str, config: str, folder: str, epochs: int, *more: str) -> list[str]:
    """Return a pairs-lit command on MNIST."""
    options = [f"--trainer.max_epochs={epochs}", "--data.source=mnist", f"--trainer.default_root_dir={folder}"]
    return ["pairs-lit", name, "--config", str(CONFIGS / config), *options, *more]


def time_sweep(config: str, epochs: int, values: Sequence[float], seeds: int) -> float:
    """Return the seconds of one sweep."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sweep.yaml"
        content = {"space": {ALPHA: list(values)}, "rounds": {"count": seeds}, "at_once": 100}
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        return time_command(build_command("sweep", config, folder, epochs, f"--sweep={file}"))


def time_fits(config: str, epochs: int) -> float:
    """Return the seconds of one fit per value, run sequentially and, like the sweep, without test pairs."""
    with tempfile.TemporaryDirectory() as folder:
        options = [f"--rounds.count={SEEDS}", "--data.watch_test=false"]
        return sum(
            time_command(build_command("fit", config, folder, epochs, *options, f"--{ALPHA}={value}"))
            for value in VALUES
        )


def time_plain_loop(network: str, epochs: int) -> float:
    """Return the seconds of the plain loop over all values and seeds, extrapolated from one and three rounds."""
    threads = (1, os.cpu_count() or 1)

    def best(rounds: int) -> float:
        return min(
            time_command([sys.executable, "-c", PLAIN_LOOP_CODE.format(n, network, rounds, epochs)]) for n in threads
        )

    one, three = best(1), best(3)
    return one + (three - one) / 2 * (len(VALUES) * SEEDS - 1)


def measure_large_sweep(config: str) -> tuple[float, float]:
    """Return the seconds and the peak memory, in MB, of 100 values × 10 seeds in one command."""
    values = [round(0.02 * number, 4) for number in range(1, 101)]
    taken = time_sweep(config, 2, values, 10)
    return taken, get_peak_memory(of_children=True)


def main() -> None:
    """Measure, print the table and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2, help="interleaved repeats (default: 2)")
    parser.add_argument("--epochs", type=int, default=25, help="epochs of each round (default: 25)")
    options = parser.parse_args()
    taken, peak = measure_large_sweep(NETWORKS["fc"])
    rows = []
    for network, config in NETWORKS.items():
        repeats: list[tuple[float, float, float]] = []
        for _ in range(options.repeats):
            ours = time_sweep(config, options.epochs, VALUES, SEEDS), time_fits(config, options.epochs)
            repeats.append((*ours, time_plain_loop(network, options.epochs)))
        sweep, fits, loop = (median(times) for times in zip(*repeats, strict=True))
        ratios = [f"{fits / sweep:.1f} ×", f"{loop / sweep:.1f} ×"]
        rows.append([config, f"{sweep:.0f} s", f"{fits:.0f} s", f"{loop:.0f} s", *ratios])
    header = ["config", "sweep", "ten fits", "plain loop", "fits / sweep", "loop / sweep"]
    notes = [
        f"{len(VALUES)} values of α × {SEEDS} seeds × {options.epochs} epochs on MNIST, timed from the shell prompt "
        f"to the end of the command; {os.cpu_count()} cores, {options.repeats} interleaved "
        f"{'repeat' if options.repeats == 1 else 'repeats (median)'}. The plain loop also evaluates test pairs; its "
        "time is extrapolated from one and three rounds, with one thread or all threads, whichever is faster.",
        f"100 values × 10 seeds of {NETWORKS['fc']} for 2 epochs in one sweep, that is 1,000 [slices](concepts.md): "
        f"{taken:.0f} s, at most {peak:.0f} MB in one process.",
    ]
    table = tabulate(rows, header, tablefmt="github", disable_numparse=True)
    text = f"{table}\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"
    print(text)
    write_text_atomically(HERE.parent / "docs" / "sweep-speed.md", f"# Speed: sweeps\n\n{text}")


if __name__ == "__main__":
    main()
