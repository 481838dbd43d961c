"""The baselines and pairs-lit: a plain loop, textbook Lightning, ``torch.func`` and ``pairs-lit fit``.

Each method trains rounds on the pairs that pairs-lit draws for their seeds. After every epoch it evaluates the
validation
and test pairs in batches of 200 (loss, accuracy, digit accuracy). It returns the time of each epoch.
"""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils.data import DataLoader, TensorDataset

from networks import CONFIGS, NETWORKS, BenchmarkNetwork, get_correct
from pairs_lit.commands import fit as app
from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.runs.tables import read_rounds

EVAL_BATCH_SIZE = 200
"""Pairs per batch in evaluation, for every method: the default of pairs-lit."""

Tensors = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Timing:
    """Times and accuracies of trained rounds.

    Attributes:
        seconds: Time of each epoch but the first, divided by the number of rounds.
        accuracy: Test accuracy of each round after the last epoch.
    """

    seconds: list[float]
    accuracy: list[float]


@dataclass
class EpochClock:
    """The times at which epochs ended."""

    end_times: list[float] = field(default_factory=list)

    def record_epoch_end(self, device: str) -> None:
        """Record the end of an epoch, after the device has finished its work."""
        if device == "cuda":
            torch.cuda.synchronize()
        self.end_times.append(time.perf_counter())

    def compute_epoch_seconds(self, rounds: int) -> list[float]:
        """Return the time per round of each epoch but the first."""
        return [(after - before) / rounds for before, after in zip(self.end_times, self.end_times[1:], strict=False)]


def read_data_options(network: BenchmarkNetwork) -> dict[str, Any]:
    """Return the ``data`` section of a bundled config, with the changes of the benchmark."""
    return dict(yaml.safe_load((CONFIGS / network.config).read_text(encoding="utf-8"))["data"]) | network.data_changes


@cache
def load_splits(name: str, seed: int, device: str) -> dict[str, Tensors]:
    """Return images (P, 2, 14, 14), digits (P, 2) and target (P,) of each split of one round."""
    data = PairDataModule(seeds=[seed], stack_size=1, source="mnist", **read_data_options(NETWORKS[name]))
    whole = slice(0, 1)
    tensors: dict[str, Tensors] = {}
    for split in ("train", "val", "test"):
        pairs = data.bank.get_pairs(split, whole)
        parts = (data.bank.gather_images(pairs.index, whole), pairs.digits, pairs.target)
        tensors[split] = tuple(part[0].to(device) for part in parts)  # type: ignore[assignment] # three tensors
    return tensors


def get_batch_size(name: str) -> int:
    """Return the batch size of a network's config."""
    return int(read_data_options(NETWORKS[name])["batch_size"])


def split_batches(tensors: Tensors, size: int, dim: int = 0) -> Iterator[Any]:
    """Yield the batches of a split."""
    return zip(*(torch.split(tensor, size, dim) for tensor in tensors), strict=True)


def train_plain(name: str, seeds: Sequence[int], epochs: int, device: str) -> Timing:
    """Train the rounds sequentially in a hand-written loop."""
    runs = [_train_plain_round(name, seed, epochs, device) for seed in seeds]
    return Timing([value for run in runs for value in run.seconds], [run.accuracy[0] for run in runs])


def _train_plain_round(name: str, seed: int, epochs: int, device: str) -> Timing:
    network, data, clock, accuracy = NETWORKS[name], load_splits(name, seed, device), EpochClock(), 0.0
    torch.manual_seed(seed)
    model = network.build().to(device)
    optimizer = network.build_optimizer(model.parameters())
    images, digits, target = data["train"]
    for _ in range(epochs):
        model.train()
        for batch in torch.split(torch.randperm(len(target), device=device), get_batch_size(name)):
            loss = network.compute_loss(model(images[batch]), digits[batch], target[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call] # torch's
            optimizer.step()
        model.eval()
        with torch.no_grad():
            _evaluate(network, model, data["val"])
            accuracy = _evaluate(network, model, data["test"])
        clock.record_epoch_end(device)
    return Timing(clock.compute_epoch_seconds(1), [accuracy])


def _evaluate(network: BenchmarkNetwork, model: nn.Module, tensors: Tensors) -> float:
    loss = correct_pairs = correct_digits = 0.0
    for images, digits, target in split_batches(tensors, EVAL_BATCH_SIZE):
        answer, logits = model(images)
        loss += network.compute_loss((answer, logits), digits, target).item() * len(target)
        correct_pairs += get_correct(answer, target).sum().item()
        correct_digits += (logits.argmax(-1) == digits).sum().item()
    return correct_pairs / len(tensors[2])


class TextbookModule(LightningModule):
    """One round, written as in Lightning's guides.

    Args:
        name: Key of NETWORKS.
        device: Device to train on.
    """

    def __init__(self, name: str, device: str) -> None:
        super().__init__()
        self.network = NETWORKS[name]
        self.model = self.network.build()
        self.target_device = device
        self.clock = EpochClock()
        self.accuracy = 0.0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ANN401 - a batch of TensorDataset
        """Return the loss."""
        images, digits, target = batch
        loss = self.network.compute_loss(self.model(images), digits, target)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:  # noqa: ANN401 - a batch of TensorDataset
        """Log loss and accuracies of validation and test pairs."""
        images, digits, target = batch
        answer, logits = self.model(images)
        self.log("loss", self.network.compute_loss((answer, logits), digits, target))
        self.log("accuracy", get_correct(answer, target).float().mean())
        self.log("digit_accuracy", (logits.argmax(-1) == digits).float().mean())

    def on_train_epoch_end(self) -> None:
        """Record the end of the epoch and the test accuracy."""
        self.accuracy = float(self.trainer.callback_metrics["accuracy/dataloader_idx_1"])
        self.clock.record_epoch_end(self.target_device)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return self.network.build_optimizer(self.model.parameters())


def train_lightning(name: str, seeds: Sequence[int], epochs: int, device: str) -> Timing:
    """Train the rounds sequentially with a Trainer, DataLoaders and TensorBoard."""
    runs = [_train_lightning_round(name, seed, epochs, device) for seed in seeds]
    return Timing(
        [value for run in runs for value in run.clock.compute_epoch_seconds(1)], [run.accuracy for run in runs]
    )


def _train_lightning_round(name: str, seed: int, epochs: int, device: str) -> TextbookModule:
    torch.manual_seed(seed)
    module, data = TextbookModule(name, device), load_splits(name, seed, "cpu")
    train, *evaluated = (TensorDataset(*data[split]) for split in ("train", "val", "test"))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            logger=TensorBoardLogger(folder),
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=10,
        )
        trainer.fit(
            module,
            DataLoader(train, get_batch_size(name), shuffle=True),
            [DataLoader(dataset, EVAL_BATCH_SIZE) for dataset in evaluated],
        )
    return module


def train_vmap(name: str, seeds: Sequence[int], epochs: int, device: str) -> Timing:
    """Train all rounds at once with ``torch.func``: the plain network under ``vmap``."""
    network, clock = NETWORKS[name], EpochClock()
    models = []
    for seed in seeds:
        torch.manual_seed(seed)
        models.append(network.build().to(device))
    skeleton = models[0]
    values, buffers = stack_module_state(models)
    optimizer = network.build_optimizer(values.values())

    def loss(parameters: dict[str, Tensor], state: dict[str, Tensor], *batch: Tensor) -> Tensor:
        images, digits, target = batch
        return network.compute_loss(functional_call(skeleton, (parameters, state), (images,)), digits, target)

    def measured(parameters: dict[str, Tensor], state: dict[str, Tensor], *batch: Tensor) -> Tensor:
        images, digits, target = batch
        answer, logits = functional_call(skeleton, (parameters, state), (images,))
        accuracies = get_correct(answer, target).float().mean(), (logits.argmax(-1) == digits).float().mean()
        return torch.stack([*accuracies, network.compute_loss((answer, logits), digits, target)])

    gradients = vmap(grad(loss), randomness="different")
    evaluate = vmap(measured)
    rounds = [load_splits(name, seed, device) for seed in seeds]
    data = {split: tuple(map(torch.stack, zip(*(part[split] for part in rounds), strict=True))) for split in rounds[0]}
    accuracy = torch.zeros(len(seeds))
    rows = torch.arange(len(seeds), device=device)[:, None]
    for _ in range(epochs):
        skeleton.train()
        size = data["train"][2].shape[1]
        order = torch.stack([torch.randperm(size, device=device) for _ in seeds])
        for batch in torch.split(order, get_batch_size(name), 1):
            batch_gradients = gradients(values, buffers, *(part[rows, batch] for part in data["train"]))
            for key, value in values.items():
                value.grad = batch_gradients[key]
            optimizer.step()
        skeleton.eval()
        with torch.no_grad():
            for split in ("val", "test"):
                means = [evaluate(values, buffers, *part) for part in split_batches(data[split], EVAL_BATCH_SIZE, 1)]  # type: ignore[arg-type] # three tensors
                accuracy = torch.stack(means).mean(0)[:, 0].cpu()
        clock.record_epoch_end(device)
    return Timing(clock.compute_epoch_seconds(len(seeds)), accuracy.tolist())


class EpochTimer(Callback):
    """Callback that records when the epochs of a fit end."""

    clock = EpochClock()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the end of the epoch, after evaluation and logging."""
        self.clock.record_epoch_end(pl_module.device.type)


def train_pairs_lit(name: str, seeds: Sequence[int], epochs: int, device: str) -> Timing:
    """Train all rounds with ``pairs-lit fit``."""
    EpochTimer.clock.end_times.clear()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        options = {
            "config": CONFIGS / NETWORKS[name].config,
            "rounds.count": len(seeds),
            "rounds.seed": seeds[0],
            "trainer.max_epochs": epochs,
            "trainer.default_root_dir": folder,
            "trainer.accelerator": "gpu" if device == "cuda" else "cpu",
            "trainer.callbacks": "baselines.EpochTimer",
            "data.source": "mnist",
            **{f"data.{name}": value for name, value in NETWORKS[name].data_changes.items()},
        }
        if NETWORKS[name].network_path is not None:
            options["model.network"] = NETWORKS[name].network_path
        app.run("fit", ["fit", *(f"--{option}={value}" for option, value in options.items())])
        (table,) = Path(folder).glob("lightning_logs/*/*/rounds.csv")
        accuracy = [result.test_accuracy for result in read_rounds(table)]
    return Timing(
        EpochTimer.clock.compute_epoch_seconds(len(seeds)), [value for value in accuracy if value is not None]
    )


METHODS: dict[str, Callable[[str, Sequence[int], int, str], Timing]] = {
    "plain": train_plain,
    "lightning": train_lightning,
    "functional": train_vmap,
    "pairs-lit": train_pairs_lit,
}
