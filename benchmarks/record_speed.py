"""Time of a round of the record: in stacks, and sequentially in plain PyTorch.

``python benchmarks/record_speed.py`` prints one table and writes ``docs/record-speed.md``. Both train the same rounds
of ``configs/record.yaml`` on the same augmented images. The plain loop uses the package's augmentation, because a
transform per image would be slower. The time of an epoch is the difference between a long and a short fit, so that
neither start-up nor final evaluation counts. MNIST is read from ``PAIRS_LIT_DATA``.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn import functional as F

from job import time_command
from networks import CONFIGS
from pairs_lit.data.augment import Augmentation, Augmenter
from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.loaders import StackLoader
from pairs_lit.nn.backbones import CNN
from pairs_lit.runs.atomic_write import write_text_atomically
from pairs_lit.system.cores import count_cores

HERE = Path(__file__).parent
SHORT_EPOCHS, LONG_EPOCHS = 1, 4
PLAIN_LOOP_CODE = "import record_speed, torch; torch.set_num_threads({}); record_speed.train_plain(range({}), {}, {})"
EXPLANATION = """\
A convolution of 32 to 128 channels keeps a core busy by itself, so computing it for several rounds at once gains
nothing. The rounds of a stack are therefore computed sequentially, with channels last in memory, and there is one
worker per core. An epoch cannot be shorter than its convolutions, which the second row of the table gives.
"""
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def read_config() -> dict[str, Any]:
    """Return the configuration of the record."""
    config: dict[str, Any] = yaml.safe_load((CONFIGS / "record.yaml").read_text(encoding="utf-8"))
    return config


def train_plain(seeds: Sequence[int], epochs: int, layout: str) -> list[nn.Module]:
    """Train the rounds sequentially in a hand-written loop."""
    return [_train_plain_round(seed, epochs, LAYOUTS[layout]) for seed in seeds]


def _train_plain_round(seed: int, epochs: int, layout: torch.memory_format) -> nn.Module:
    config = read_config()
    settings = config["data"]
    augmentation = Augmentation(**settings["augment"])
    data = PairDataModule(
        seeds=[seed], source="mnist", normalise=settings["normalise"], val_pairs=settings["val_pairs"]
    )
    torch.manual_seed(seed)
    model = CNN((1, 14, 14), **config["model"]["backbone"]["init_args"]).to(memory_format=layout)
    weights = [value for value in model.parameters() if value.dim() > 1]
    others = [value for value in model.parameters() if value.dim() == 1]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, **config["model"]["optimizer"]["init_args"], fused=True)
    change, smoothing = Augmenter(augmentation, 14, data.bank.max_grey), config["model"]["loss"]["label_smoothing"]
    for epoch in range(epochs):
        for batch in _build_loader(data, change, settings["batch_size"], epoch):
            images = batch.images[0].flatten(0, 1)[:, None].contiguous(memory_format=layout)
            loss = F.cross_entropy(model(images), batch.digits[0].flatten(), label_smoothing=smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call] # torch's
            optimizer.step()
    return model


def time_convolutions(repeats: int = 15) -> float:
    """Return the seconds that the convolutions of one epoch of a round take on one thread, channels last."""
    torch.set_num_threads(1)
    config = read_config()
    model = CNN((1, 14, 14), **config["model"]["backbone"]["init_args"]).to(memory_format=torch.channels_last)
    calls: list[tuple[nn.Conv2d, Tensor]] = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, inputs, _: calls.append((layer, inputs[0].detach())))
    size = 2 * int(config["data"]["batch_size"])
    with torch.no_grad():
        model(torch.rand(size, 1, 14, 14).contiguous(memory_format=torch.channels_last))
    batch: float = sum(_time_forward_backward(layer, images, repeats) for layer, images in calls)
    return batch * 2000 / size


def _time_forward_backward(layer: nn.Conv2d, images: Tensor, repeats: int) -> float:
    """Return the median seconds of a convolution and its gradients, without gradients of the input image."""
    taken = []
    for _ in range(repeats):
        images.requires_grad_(layer.in_channels > 1)
        start = time.perf_counter()
        output = F.conv2d(images, layer.weight, None, layer.stride, layer.padding)
        output.backward(output)  # type: ignore[no-untyped-call] # torch's
        taken.append(time.perf_counter() - start)
    return median(taken)


def _build_loader(data: PairDataModule, change: Augmenter, size: int, epoch: int) -> StackLoader:
    return StackLoader(data.bank, ("train",), {0: slice(0, 1)}, size, lambda: epoch, augmenter=change)


def time_fit(rounds: int, epochs: int, *more: str) -> float:
    """Return the seconds of a fit with ``pairs-lit``."""
    with tempfile.TemporaryDirectory() as folder:
        options = [f"--rounds.count={rounds}", f"--trainer.max_epochs={epochs}", f"--trainer.default_root_dir={folder}"]
        few = ["--data.all_pairs=[]", "--data.watch_test=false", "--model.views=null", "--data.source=mnist"]
        return time_command(["pairs-lit", "fit", "--config", str(CONFIGS / "record.yaml"), *options, *few, *more])


def time_plain_loop(rounds: int, epochs: int, threads: int, layout: str) -> float:
    """Return the seconds of the plain loop."""
    return time_command([sys.executable, "-c", PLAIN_LOOP_CODE.format(threads, rounds, epochs, repr(layout))])


def main() -> None:
    """Measure, print the table and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="rounds trained side by side (default: 30)")
    parser.add_argument(
        "--looped", type=int, default=4, help="rounds of the plain loop, which all take equally long (default: 4)"
    )
    parser.add_argument("--repeats", type=int, default=1, help="interleaved repeats (default: 1)")
    options = parser.parse_args()
    cores = count_cores()
    measured: dict[str, list[float]] = {}
    for _ in range(options.repeats):
        ours = (time_fit(options.rounds, LONG_EPOCHS) - time_fit(options.rounds, SHORT_EPOCHS)) / options.rounds
        measured.setdefault("pairs-lit", []).append(ours)
        for threads in sorted({1, cores}):
            noun = "thread" if threads == 1 else "threads"
            for layout in LAYOUTS:
                long, short = (
                    time_plain_loop(options.looped, epochs, threads, layout) for epochs in (LONG_EPOCHS, SHORT_EPOCHS)
                )
                name = f"plain PyTorch, {threads} {noun}, {layout}"
                measured.setdefault(name, []).append((long - short) / options.looped)
    times = {name: median(epochs) / (LONG_EPOCHS - SHORT_EPOCHS) for name, epochs in measured.items()}
    ours, best = times["pairs-lit"], min(list(times.values())[1:])
    alone = time_convolutions() / cores
    times = {"pairs-lit": ours, f"convolutions alone, {cores} at a time": alone, **times}
    rows = [[name, f"{1000 * value:.0f} ms", f"{value / ours:.2f} ×"] for name, value in times.items()]
    table = tabulate(
        rows, ["method", "epoch of a round", "relative to pairs-lit"], tablefmt="github", disable_numparse=True
    )
    note = (
        f"{options.rounds} [rounds](concepts.md) of `configs/record.yaml` in pairs-lit on {cores} cores, "
        f"{options.looped} rounds in the plain loop; medians of {options.repeats} interleaved repeats; torch "
        f"{torch.__version__}, MNIST. The fastest plain loop takes {best / ours:.2f} times as long as pairs-lit, and "
        f"{best / alone:.2f} times as long as the convolutions alone."
    )
    text = f"{table}\n\n{note}\n\n{EXPLANATION}"
    print(text)
    write_text_atomically(HERE.parent / "docs" / "record-speed.md", f"# Speed: the record\n\n{text}")


if __name__ == "__main__":
    main()
