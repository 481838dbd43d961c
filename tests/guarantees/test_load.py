"""Load tests: hundreds of rounds, runs and fits finish, and memory and open files do not grow."""

import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.tensorboard import SummaryWriter

import growth
from pairs_lit import PairDataModule, PairModule
from pairs_lit.cli import main
from pairs_lit.nn.backbones import FC
from pairs_lit.nn.heads import MLP
from pairs_lit.runs.tables import RoundResult, read_rounds, write_rounds
from tests.conftest import CONFIGS

MIB = 2**20


def resident() -> float:
    """Return the memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / MIB


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def accuracies(rng: np.random.Generator) -> list[RoundResult]:
    values = (rng.normal(0.87, 0.01, 100).clip(0, 1) * 1000).round() / 1000
    return [
        RoundResult(seed, "ok", 0.9, None, value, None, value, None, value, 2)
        for seed, value in enumerate(values.tolist())
    ]


def test_fifty_runs_of_a_hundred_rounds_are_compared_in_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, folders = np.random.default_rng(0), []
    for place in range(50):
        folder = tmp_path / f"run{place}" / "1"
        write_rounds(folder / "rounds.csv", accuracies(rng))
        (folder / "summary.json").write_text(json.dumps({"data": {"source": "mnist", "relation": "le"}}))
        folders.append(str(folder))
    main(["compare", *folders[:2]])  # imports are not part of the measured time
    start = time.monotonic()
    assert main(["compare", *folders]) == 0
    assert time.monotonic() - start < 20  # a few seconds on an idle machine
    assert capsys.readouterr().out.count("paired by seed") == 50 * 49 // 2 + 1 + 2


SETTLED, SOAKED = 10, 50


@pytest.fixture
def _only_new_objects() -> Iterator[None]:
    """Hide the objects of earlier tests from the garbage collector, since visiting them takes most of the time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def alive() -> Counter[str]:
    """Count the objects that a fit creates and that nothing may keep alive."""
    kinds = (torch.Tensor, torch.nn.Module, LightningDataModule, Trainer, SummaryWriter)
    return Counter(type(each).__name__ for each in gc.get_objects() if issubclass(type(each), kinds))


@pytest.mark.slow
@pytest.mark.usefixtures("_only_new_objects")
def test_fifty_fits_in_one_process_do_not_leak(tiny_options: list[str], tmp_path: Path) -> None:
    arguments = ["fit", "--config", str(CONFIGS / "cnn_aux.yaml"), *tiny_options]
    arguments += ["--trainer.default_root_dir", str(tmp_path), "--trainer.enable_progress_bar", "false"]
    memory, files, objects = [], [], []
    for _ in range(SOAKED):
        assert main(arguments) == 0
        gc.collect()
        memory.append(resident())
        files.append(open_files())
        objects.append(alive())
    settled, last = np.median(memory[SETTLED : 2 * SETTLED]), np.median(memory[-SETTLED:])
    print(f"memory {settled:.0f} MiB after {SETTLED} fits, {last:.0f} MiB after {SOAKED}; files {files[SETTLED]}")
    assert objects[-1] == objects[SETTLED]
    assert last - settled < 15  # MiB over 30 fits; a leak of the images alone would add 1 MiB per fit
    assert files[-1] <= files[SETTLED]


@pytest.mark.slow
def test_a_thousand_rounds_finish_within_the_stated_memory(mnist_root: Path, tmp_path: Path) -> None:
    # VmHWM instead of ru_maxrss, which would start at the memory of the parent process
    code = "import re, sys; from pairs_lit.cli import main; code = main(); status = open('/proc/self/status').read(); "
    code += "print('peak', int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) // 1024); sys.exit(code)"
    arguments = ["fit", "--config", str(CONFIGS / "fc.yaml"), "--rounds.count", "1000", "--trainer.max_epochs", "1"]
    arguments += ["--data.root", str(mnist_root), "--trainer.default_root_dir", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(CONFIGS.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    (run,) = tmp_path.glob("lightning_logs/*/*")
    assert [result.seed for result in read_rounds(run / "rounds.csv")] == list(range(1000))
    peak = int(done.stdout.rsplit("peak", 1)[1])
    print(f"peak {peak} MiB")
    assert peak < 2000  # MiB: docs/reliability.md


def prepare(rounds: int, root: Path) -> float:
    """Build the networks of some rounds and draw their pairs, and return the seconds of CPU time."""
    start = time.process_time()
    data = PairDataModule(seeds=list(range(rounds)), root=str(root), source="mnist")
    data.setup("fit")
    PairModule(seeds=list(range(rounds)), backbone=FC, head=MLP)
    return time.process_time() - start


@pytest.mark.slow
@pytest.mark.parametrize(("curve", "number"), [("rounds", 1000), ("trials", 300), ("pictures", 2000)])
def test_memory_hardly_grows(curve: str, number: int, tmp_path: Path) -> None:
    cost = growth.measure(curve, number, tmp_path)
    print(f"{number} {curve}: {cost.seconds:.0f} s, {cost.mebibytes:.0f} MiB")
    assert cost.mebibytes < 1536  # MiB, of which imports and the networks' compilation take 1,000


@pytest.mark.slow
def test_a_round_is_prepared_in_milliseconds(mnist_root: Path) -> None:
    prepare(2, mnist_root)  # the first time, libraries load their kernels
    few, many = (min(prepare(rounds, mnist_root) for _ in range(3)) for rounds in (10, 410))
    milliseconds = (many - few) / 400 * 1000
    print(f"{milliseconds:.2f} ms of CPU time per round")
    assert milliseconds < 6  # twice those of an idle machine


@pytest.mark.slow
def test_ten_thousand_rounds_finish(tiny_options: list[str], tmp_path: Path) -> None:
    arguments = ["fit", "--config", str(CONFIGS / "fc.yaml"), *tiny_options, "--rounds.count", "10000"]
    arguments += ["--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "1"]
    arguments += ["--data.train_pairs", "4", "--data.val_pairs", "2", "--data.test_pairs", "2"]
    start = time.monotonic()
    assert main([*arguments, "--trainer.enable_progress_bar", "false"]) == 0
    assert time.monotonic() - start < 180  # checking a list of seeds in the config would take minutes more
    (rounds,) = tmp_path.rglob("rounds.csv")
    assert len(read_rounds(rounds)) == 10_000
