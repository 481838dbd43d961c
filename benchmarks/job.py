"""The main job from the shell prompt to the table, and how soon it begins: ``python benchmarks/job.py``.

Times ``pairs-lit fit --config configs/cnn_aux.yaml`` (10 rounds × 150 epochs on MNIST) and the same ten rounds in the
plain loop, each as a process of its own; then, in turn, ``import lightning`` and ``pairs-lit fit`` up to the end of its
first training step. Writes ``docs/job.md``. MNIST is read from ``PAIRS_LIT_DATA``.
"""

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

from networks import CONFIGS
from pairs_lit.runs.writing import write_text_durably

HERE = Path(__file__).parent
ROUNDS, EPOCHS, STARTS = 10, 150, 5
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
        Path(os.environ["FIRST_STEP"]).write_text(str(time.time()), encoding="utf-8")
        os._exit(0)


def seconds(command: Sequence[str], extra: Mapping[str, str] | None = None) -> float:
    """Run a command and return how long it took."""
    start = time.time()
    environment = os.environ | {"PYTHONPATH": str(HERE)} | dict(extra or {})
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.time() - start


def fit(config: str, folder: str) -> list[str]:
    """Return the command that trains a shipped config on MNIST."""
    options = ["--data.source", "mnist", "--trainer.default_root_dir", folder]
    return ["pairs-lit", "fit", "--config", str(CONFIGS / config), *options]


def first_step(config: str) -> float:
    """Return the seconds from the shell prompt to the end of the first training step."""
    with tempfile.TemporaryDirectory() as folder:
        moment = Path(folder) / "moment"
        start = time.time()
        seconds([*fit(config, folder), "--trainer.callbacks", "job.FirstStep"], {"FIRST_STEP": str(moment)})
        return float(moment.read_text(encoding="utf-8")) - start


def main() -> None:
    """Measure, print, write."""
    configs = ("fc.yaml", "cnn_aux.yaml")
    imports: list[float] = []
    starts: dict[str, list[float]] = {config: [] for config in configs}
    for _ in range(STARTS):
        imports.append(seconds([sys.executable, "-c", "import lightning"]))
        for config in configs:
            starts[config].append(first_step(config))
    with tempfile.TemporaryDirectory() as folder:
        ours = seconds(fit("cnn_aux.yaml", folder))
    short = {n: seconds([sys.executable, "-c", PLAIN.format(n, 1, 20)]) for n in (1, os.cpu_count() or 1)}
    threads = min(short, key=lambda count: short[count])
    loop = seconds([sys.executable, "-c", PLAIN.format(threads, ROUNDS, EPOCHS)])
    whole = median(imports)
    rows = [
        [f"main job, pairs-lit fit: {ROUNDS} rounds × {EPOCHS} epochs", f"{ours:.0f} s", ""],
        [f"the same in the plain loop ({threads} threads)", f"{loop:.0f} s", f"{loop / ours:.1f} ×"],
        [f"import lightning, median of {STARTS}", f"{whole:.2f} s", ""],
    ]
    for config, taken in starts.items():
        name = f"first step of {config}, median of {STARTS}"
        rows.append([name, f"{median(taken):.2f} s", f"{median(taken) / whole:.2f} ×"])
    text = tabulate(rows, ["what", "time", "ratio"], tablefmt="github", disable_numparse=True)
    print(text)
    write_text_durably(HERE.parent / "docs" / "job.md", f"{text}\n")


if __name__ == "__main__":
    main()
