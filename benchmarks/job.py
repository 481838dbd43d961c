"""Time of the first command of the README, from the shell prompt to the table: ``python benchmarks/job.py``.

Measures, each in a new process:

- ``pairs-lit fit --config configs/cnn_aux.yaml`` (10 rounds × 150 epochs on MNIST) and the same rounds in the plain
loop,
  on the idle machine and with one busy process per core;
- 20 rounds with one worker and with two;
- ``import lightning``, and ``pairs-lit fit`` up to the end of its first training step.

Writes ``docs/job.md``. MNIST is read from ``PAIRS_LIT_DATA``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from tabulate import tabulate

from background_load import keep_cores_busy
from networks import CONFIGS
from pairs_lit.runs.atomic_write import write_text_atomically

HERE = Path(__file__).parent
ROUNDS, EPOCHS, START_REPEATS = 10, 150, 5
LOOP_ROUNDS = 2
"""Rounds that the plain loop trains. All rounds take equally long, so the time of ten is extrapolated from two."""

PLAIN_LOOP_CODE = (
    "import baselines, torch; torch.set_num_threads({}); baselines.train_plain('cnn_aux', range({}), {}, 'cpu')"
)


class FirstStepTimer(Callback):
    """Callback that writes the end time of the first training step to the file named by ``FIRST_STEP``."""

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401 - Lightning's signature
        batch_idx: int,
    ) -> None:
        """Write the time, then end the process."""
        if trainer.is_global_zero:
            Path(os.environ["FIRST_STEP"]).write_text(str(time.time()), encoding="utf-8")
            os._exit(0)


def time_command(command: Sequence[str], extra: Mapping[str, str] | None = None) -> float:
    """Run a command and return its time in seconds."""
    start = time.time()
    environment = os.environ | {"PYTHONPATH": str(HERE)} | dict(extra or {})
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    taken = time.time() - start
    print(f"{taken:.1f} s: {' '.join(command)}", flush=True)
    return taken


def build_fit_command(config: str, folder: str) -> list[str]:
    """Return the command that trains a bundled config on MNIST."""
    options = ["--data.source", "mnist", "--trainer.default_root_dir", folder]
    return ["pairs-lit", "fit", "--config", str(CONFIGS / config), *options]


def time_first_step(config: str, workers: str) -> float:
    """Return the seconds from the shell prompt to the end of the first training step with this many workers."""
    with tempfile.TemporaryDirectory() as folder:
        moment = Path(folder) / "moment"
        start = time.time()
        options = ["--trainer.devices", workers, "--trainer.callbacks", "job.FirstStepTimer"]
        time_command([*build_fit_command(config, folder), *options], {"FIRST_STEP": str(moment)})
        return float(moment.read_text(encoding="utf-8")) - start


def time_main_jobs(loop_threads: int, repeats: int) -> dict[str, float]:
    """Return the median seconds of the job in pairs-lit and in the plain loop, idle and busy."""
    times: dict[str, list[float]] = {}
    for _ in range(repeats):
        for condition in ("idle", "busy"):
            with keep_cores_busy(condition == "busy"), tempfile.TemporaryDirectory() as folder:
                loop = [sys.executable, "-c", PLAIN_LOOP_CODE.format(loop_threads, LOOP_ROUNDS, EPOCHS)]
                times.setdefault(f"ours, {condition}", []).append(
                    time_command(build_fit_command("cnn_aux.yaml", folder))
                )
                start = time_command([sys.executable, "-c", PLAIN_LOOP_CODE.format(loop_threads, 0, EPOCHS)])
                whole = start + (time_command(loop) - start) * ROUNDS / LOOP_ROUNDS
                times.setdefault(f"loop, {condition}", []).append(whole)
    return {name: median(taken) for name, taken in times.items()}


def time_workers(repeats: int) -> tuple[float, float]:
    """Return the median milliseconds per round and epoch of 20 rounds of CNN_aux with one worker and with two."""
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for count, taken in times.items():
            with tempfile.TemporaryDirectory() as folder:
                options = ["--rounds.count", "20", "--trainer.max_epochs", "25", "--trainer.devices", str(count)]
                time_command([*build_fit_command("cnn_aux.yaml", folder), *options])
                (summary,) = Path(folder).glob("lightning_logs/*/*/summary.json")
                taken.append(json.loads(summary.read_text(encoding="utf-8"))["times"]["seconds"] / 20 / 25 * 1e3)
    return median(times[1]), median(times[2])


def describe(threads: int) -> str:
    """Return the notes below the table."""
    return (
        f"The first four rows time {ROUNDS} [rounds](concepts.md) of `cnn_aux` × {EPOCHS} epochs on MNIST, from the "
        f"shell prompt to the table; the ratio is plain loop / `pairs-lit fit`. The time of the plain loop ({threads} "
        f"threads) is extrapolated from {LOOP_ROUNDS} rounds. On the busy machine, one other busy process runs "
        "per core. "
        "In the rows of two workers, the ratio is the gain over one worker; in the rows of a first step, it is "
        "relative to `import lightning`. `python benchmarks/job.py` writes this page.\n"
    )


def main() -> None:
    """Measure, print the table and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1, help="repeats of the whole job (default: 1)")
    parser.add_argument("--starts", type=int, default=START_REPEATS, help="repeats of the start-up times (default: 5)")
    options = parser.parse_args()
    repeats = options.repeats
    configs = {"fc.yaml": "1", "cnn_aux.yaml": "1", "cnn_aux.yaml, 2 workers": "2"}
    imports: list[float] = []
    starts: dict[str, list[float]] = {config: [] for config in configs}
    for _ in range(options.starts):
        imports.append(time_command([sys.executable, "-c", "import lightning"]))
        for name, count in configs.items():
            starts[name].append(time_first_step(name.split(",")[0], count))
    short = {
        n: time_command([sys.executable, "-c", PLAIN_LOOP_CODE.format(n, 1, 20)]) for n in (1, os.cpu_count() or 1)
    }
    threads = min(short, key=lambda count: short[count])
    jobs = time_main_jobs(threads, repeats)
    one, two = time_workers(max(3, repeats))
    whole = median(imports)
    rows = []
    for condition in ("idle", "busy"):
        ours, loop = jobs[f"ours, {condition}"], jobs[f"loop, {condition}"]
        rows.append([f"`pairs-lit fit`, {condition} machine", f"{ours:.0f} s", ""])
        rows.append([f"plain loop, {condition} machine", f"{loop:.0f} s"])
        rows[-1].append(f"{loop / ours:.1f} ×")
    rows += [
        ["20 rounds of cnn_aux.yaml, one worker", f"{one:.1f} ms per round and epoch", ""],
        ["20 rounds of cnn_aux.yaml, two workers", f"{two:.1f} ms per round and epoch", f"{one / two:.2f} ×"],
        [f"import lightning, median of {options.starts}", f"{whole:.2f} s", ""],
    ]
    for config, taken in starts.items():
        name = f"first step of {config}, median of {options.starts}"
        rows.append([name, f"{median(taken):.2f} s", f"{median(taken) / whole:.2f} ×"])
    text = tabulate(rows, ["measurement", "time", "ratio"], tablefmt="github", disable_numparse=True)
    text += "\n\n" + describe(threads)
    print(text)
    write_text_atomically(HERE.parent / "docs" / "job.md", f"# Speed: a whole fit\n\n{text}")


if __name__ == "__main__":
    main()
