"""The main job from the shell prompt to the table, and how soon it begins: ``python benchmarks/job.py``.

Times ``pairs-lit fit --config configs/cnn_aux.yaml`` (10 rounds × 150 epochs on MNIST) and two of these rounds in the
plain loop, times five, each as a process of its own, on the idle machine and beside one busy process a core; 20 rounds
with one worker and with two; and, in turn, ``import lightning`` and ``pairs-lit fit`` up to the end of its first
training step. Writes ``docs/job.md``. MNIST is read from ``PAIRS_LIT_DATA``.
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

from busy import busy
from networks import CONFIGS
from pairs_lit.runs.atomic_write import write_text_durably

HERE = Path(__file__).parent
ROUNDS, EPOCHS, STARTS = 10, 150, 5
LOOPED = 2
"""So many rounds the plain loop trains; rounds take equally long, so ten take five times as long, after the start."""

PLAIN = "import contenders, torch; torch.set_num_threads({}); contenders.plain('cnn_aux', range({}), {}, 'cpu')"


class FirstStep(Callback):
    """Writes down when the first training step ends, in the file that ``FIRST_STEP`` names."""

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401 - likewise
        batch_idx: int,
    ) -> None:
        """Write it once, then end."""
        if trainer.is_global_zero:
            Path(os.environ["FIRST_STEP"]).write_text(str(time.time()), encoding="utf-8")
            os._exit(0)


def seconds(command: Sequence[str], extra: Mapping[str, str] | None = None) -> float:
    """Run a command and return how long it took."""
    start = time.time()
    environment = os.environ | {"PYTHONPATH": str(HERE)} | dict(extra or {})
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    taken = time.time() - start
    print(f"{taken:.1f} s: {' '.join(command)}", flush=True)
    return taken


def fit(config: str, folder: str) -> list[str]:
    """Return the command that trains a shipped config on MNIST."""
    options = ["--data.source", "mnist", "--trainer.default_root_dir", folder]
    return ["pairs-lit", "fit", "--config", str(CONFIGS / config), *options]


def first_step(config: str, workers: str) -> float:
    """Return the seconds from the shell prompt to the end of the first training step of so many workers."""
    with tempfile.TemporaryDirectory() as folder:
        moment = Path(folder) / "moment"
        start = time.time()
        options = ["--trainer.devices", workers, "--trainer.callbacks", "job.FirstStep"]
        seconds([*fit(config, folder), *options], {"FIRST_STEP": str(moment)})
        return float(moment.read_text(encoding="utf-8")) - start


def whole_jobs(loop_threads: int, repeats: int) -> dict[str, float]:
    """Return the median seconds of the main job in pairs-lit and in the plain loop, idle and busy."""
    found: dict[str, list[float]] = {}
    for _ in range(repeats):
        for condition in ("idle", "busy"):
            with busy(condition == "busy"), tempfile.TemporaryDirectory() as folder:
                loop = [sys.executable, "-c", PLAIN.format(loop_threads, LOOPED, EPOCHS)]
                found.setdefault(f"ours, {condition}", []).append(seconds(fit("cnn_aux.yaml", folder)))
                start = seconds([sys.executable, "-c", PLAIN.format(loop_threads, 0, EPOCHS)])
                whole = start + (seconds(loop) - start) * ROUNDS / LOOPED
                found.setdefault(f"loop, {condition}", []).append(whole)
    return {name: median(taken) for name, taken in found.items()}


def workers(repeats: int) -> tuple[float, float]:
    """Return the median milliseconds a round-epoch of 20 rounds of CNN_aux with one worker and with two."""
    found: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for count, taken in found.items():
            with tempfile.TemporaryDirectory() as folder:
                options = ["--rounds.count", "20", "--trainer.max_epochs", "25", "--trainer.devices", str(count)]
                seconds([*fit("cnn_aux.yaml", folder), *options])
                (summary,) = Path(folder).glob("lightning_logs/*/*/summary.json")
                taken.append(json.loads(summary.read_text(encoding="utf-8"))["times"]["seconds"] / 20 / 25 * 1e3)
    return median(found[1]), median(found[2])


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1, help="repeats of the main job")
    parser.add_argument("--starts", type=int, default=STARTS, help="repeats of the starts")
    options = parser.parse_args()
    repeats = options.repeats
    configs = {"fc.yaml": "1", "cnn_aux.yaml": "1", "cnn_aux.yaml, 2 workers": "2"}
    imports: list[float] = []
    starts: dict[str, list[float]] = {config: [] for config in configs}
    for _ in range(options.starts):
        imports.append(seconds([sys.executable, "-c", "import lightning"]))
        for name, count in configs.items():
            starts[name].append(first_step(name.split(",")[0], count))
    short = {n: seconds([sys.executable, "-c", PLAIN.format(n, 1, 20)]) for n in (1, os.cpu_count() or 1)}
    threads = min(short, key=lambda count: short[count])
    jobs = whole_jobs(threads, repeats)
    one, two = workers(max(3, repeats))
    whole = median(imports)
    rows = []
    for condition in ("idle", "busy"):
        ours, loop = jobs[f"ours, {condition}"], jobs[f"loop, {condition}"]
        rows.append([f"main job, {condition}, pairs-lit fit: {ROUNDS} rounds × {EPOCHS} epochs", f"{ours:.0f} s", ""])
        rows.append(
            [f"the same, {condition}, in the plain loop ({threads} threads, from {LOOPED} rounds)", f"{loop:.0f} s"]
        )
        rows[-1].append(f"{loop / ours:.1f} ×")
    rows += [
        ["20 rounds of cnn_aux.yaml, idle, one worker", f"{one:.1f} ms a round-epoch", ""],
        ["the same, two workers", f"{two:.1f} ms a round-epoch", f"{one / two:.2f} ×"],
        [f"import lightning, median of {options.starts}", f"{whole:.2f} s", ""],
    ]
    for config, taken in starts.items():
        name = f"first step of {config}, median of {options.starts}"
        rows.append([name, f"{median(taken):.2f} s", f"{median(taken) / whole:.2f} ×"])
    text = tabulate(rows, ["what", "time", "ratio"], tablefmt="github", disable_numparse=True)
    print(text)
    write_text_durably(HERE.parent / "docs" / "job.md", f"# Speed: the main job\n\n{text}\n")


if __name__ == "__main__":
    main()
