"""Typical networks, schedules and callbacks of course projects."""

import collections
import functools
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn import functional as F

from pairs_lit.data.loaders import StackBatch

Shape = tuple[int, int, int]


class DividesInPlace(nn.Module):
    """Changes its input in place, then repeats it three times."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * shape[1] * shape[2], 10))

    def forward(self, x: Tensor) -> Tensor:
        x /= 255
        return self.layers(x.repeat(1, 3, 1, 1).flatten(1))


class Divides(DividesInPlace):
    """Computes the same as DividesInPlace without changing its input."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layers((x / 255).repeat(1, 3, 1, 1).flatten(1))


class InPlaceBeforeLinear(nn.Module):
    """Changes its input in place before a linear layer, which keeps it for the gradient."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x *= 2
        return self.layer(x)


class ReluFirst(nn.Sequential):
    """Begins with an in-place activation; has known layers only."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.ReLU(inplace=True), nn.Linear(width, 1))


class ReluFirstInForward(nn.Module):
    """Computes the same as ReluFirst in a custom forward."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.layer = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.relu(x))


class ReluFirstBackbone(nn.Sequential):
    """Begins with an in-place activation of the image."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(shape[1] * shape[2], 10))


class OneLayer(nn.Module):
    """Adds noise from one random generator to its embedding, in every split."""

    def __init__(self, shape: Shape, *, kind: str = "none") -> None:
        super().__init__()
        self.layer = nn.Linear(shape[1] * shape[2], 10)
        self._kind = kind

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x.flatten(1) / 255)
        if self._kind == "torch":
            return F.dropout(h, 0.5)
        if self._kind == "numpy":
            return h * float(np.random.rand())
        return h * random.random() if self._kind == "python" else h


class RandomWeights(nn.Sequential):
    """Draws its initial weights from the generators of NumPy and Python."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10))
        nn.init.constant_(self[1].weight, float(np.random.rand()) * random.random() / 100)


class Counts(nn.Module):
    """Computes something different in each call."""

    calls: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.layer = nn.Linear(shape[1] * shape[2], 10)
        self.register_buffer("calls", _ZERO)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x.flatten(1) / 255) / self.calls


_ZERO = torch.zeros(())
_LAYER = nn.Linear(14 * 14, 10)


class KeepsMore(nn.Module):
    """Has an extra state that is not a tensor."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.layer = nn.Linear(shape[1] * shape[2], 10)
        self.shift = np.float64(-0.5)

    def get_extra_state(self) -> dict[str, Any]:
        return {"shift": self.shift, "counts": np.arange(3)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.shift = state["shift"]

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1) / 255) + self.shift


class SharesItsLayer(nn.Module):
    """Uses a layer of this file, so that all networks share it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.layer = _LAYER

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))


class NormInForward(nn.Module):
    """Has batch norm in a custom class, so that it cannot be trained on a batch of one pair."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.layer = nn.BatchNorm1d(width), nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.norm(x))


class NoShape(nn.Module):
    """Backbone whose constructor takes no shape."""

    def __init__(self, hidden: int = 7) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(14 * 14, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class InChannels(nn.Sequential):
    """Backbone whose first argument is not the shape and must be set by name."""

    def __init__(self, in_features: int, out_features: int = 10) -> None:
        super().__init__(nn.Flatten(), nn.Linear(in_features, out_features))


def sequential(shape: Shape, width: int = 12):  # type: ignore[no-untyped-def] # noqa: ANN201 - as people write it
    """Return a backbone."""
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], width), nn.ReLU(), nn.Linear(width, 10))


def options_of_its_own(
    shape: Shape, channels: int = 3, name: str = "a", flag: object = 7, choice: object = None
) -> nn.Module:
    """Return a backbone whose ``repr`` shows the arguments of this function."""
    return nn.Sequential(nn.Flatten(), Noted(f"{channels!r} {name!r} {flag!r} {choice!r}"), nn.Linear(14 * 14, 10))


class Noted(nn.Identity):
    """Shows a note in its ``repr``."""

    def __init__(self, note: str) -> None:
        super().__init__()
        self.note = note

    def extra_repr(self) -> str:
        return self.note


class Makers:
    """Class with methods that build a backbone."""

    @classmethod
    def by_class(cls, shape: Shape) -> nn.Module:
        return sequential(shape, 3)

    @staticmethod
    def static(shape: Shape) -> nn.Module:
        return sequential(shape, 3)


partial_of_sequential = functools.partial(sequential, width=3)


def cosine(epoch: int) -> float:
    """Schedule that returns NumPy's numbers."""
    return 0.5 * (1 + np.cos(np.pi * epoch / 10))


def jumpy(epoch: int) -> float:
    """Schedule that draws random numbers."""
    return random.random() * float(np.random.rand()) * float(torch.rand(()))


class KeepsThings(Callback):
    """Adds values to a checkpoint that are not plain but can be converted to plain values."""

    def __init__(self) -> None:
        self.loaded: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return {
            "array": np.arange(3.0),
            "number": np.float32(0.5),
            "path": Path("a") / "b",
            "last": collections.deque([1, 2], maxlen=5),
            "seen": {3, 1},
            "by_kind": collections.Counter("aab"),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loaded = state_dict


class KeepsAModule(Callback):
    """Adds a value to a checkpoint that cannot be converted to plain values."""

    def state_dict(self) -> dict[str, Any]:
        return {"things": [1, {"inner": nn.Linear(1, 1)}]}


class Refuses(Callback):
    """Callback whose constructor fails."""

    def __init__(self, count: int = 3) -> None:
        raise ValueError(f"count must be 7, not {count}")


class RefusingLogger(CSVLogger):
    """Logger whose constructor fails."""

    def __init__(self, save_dir: str = ".") -> None:
        raise RuntimeError("no server here")


class NoisyImages(Callback):
    """Adds noise from all three global generators to every batch."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: StackBatch, batch_idx: int
    ) -> None:
        batch.images.add_(torch.rand(()) + float(np.random.rand()) + random.random())

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: StackBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.on_train_batch_start(trainer, pl_module, batch, batch_idx)


class StopsEarly(Callback):
    """Ends the fit after its first epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = True


class LosesItsServer(Callback):
    """Callback that loses a connection."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        raise ConnectionError("server gone")


class GivesTwo(nn.Module):
    """Head that returns two tensors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x), x


class FailsInTraining(Callback):
    """Callback that fails at the end of an epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        raise KeyError("val_loss")


class RandomLayers(nn.Sequential):
    """Chooses its layers at random, so that rounds may differ."""

    def __init__(self, shape: Shape) -> None:
        activation, p = random.choice([nn.ReLU, nn.Tanh]), random.choice([0.2, 0.6])
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10), activation(), nn.Dropout(p))


class RandomWidth(nn.Sequential):
    """Chooses the width of its embedding at random."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], random.randint(5, 500)))


class FrozenNorm(nn.Sequential):
    """Keeps its batch norm in evaluation mode, even in training."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10), nn.BatchNorm1d(10))

    def train(self, mode: bool = True) -> "FrozenNorm":
        super().train(mode)
        self[2].training = False
        return self


class MonteCarlo(nn.Sequential):
    """Keeps dropout active in evaluation."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10), nn.Dropout(0.5))

    def train(self, mode: bool = True) -> "MonteCarlo":
        return super().train(True)


def _halved(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return output / 2


class Altered(nn.Sequential):
    """Sequence of known layers that is altered by a hook or a replaced method."""

    def __init__(self, shape: Shape, kind: str = "hook") -> None:
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10))
        layer = self[1]
        if kind == "hook":
            layer.register_forward_hook(_halved)
        elif kind == "gradient hook":
            layer.weight.register_hook(lambda gradient: gradient / 2)
        elif kind == "forward":
            plain = layer.forward
            layer.forward = lambda x: plain(x) / 2


class AlteredCall(Altered):
    """Sequence of known layers that overrides ``__call__``."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape, "call")

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) / 2


class OwnGenerator(nn.Module):
    """Draws from its own seeded generator, also in evaluation."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.layer, self.generator = nn.Linear(shape[1] * shape[2], 10), np.random.default_rng(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1) / 255) * float(self.generator.random())


class ChangesForm(nn.Module):
    """Has a buffer whose shape, strides or type changes during training."""

    kept: Tensor | None

    def __init__(self, shape: Shape, kind: str = "late") -> None:
        super().__init__()
        self.layer, self.kind = nn.Linear(shape[1] * shape[2], 10), kind
        self.register_buffer("kept", None if kind == "late" else torch.zeros(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        embedding = self.layer(x.flatten(1) / 255)
        if self.training:
            transposed, integers = torch.ones(3, 2).t(), torch.zeros(2, 3).long()
            values = {"late": embedding, "batch": embedding, "strides": transposed, "type": integers}
            self.kept = torch.cat([self.kept, self.kept[:1]]) if self.kind == "queue" else values[self.kind].detach()
        return embedding


class GrowingExtraState(nn.Module):
    """Has a tensor as its extra state that grows during training; an extra state may have any shape."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.layer, self.seen = nn.Linear(shape[1] * shape[2], 10), torch.zeros(1)

    def get_extra_state(self) -> Tensor:
        return self.seen

    def set_extra_state(self, state: Tensor) -> None:
        self.seen = state

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen = torch.cat([self.seen, torch.ones(1)])
        return self.layer(x.flatten(1) / 255)


class Squeezes(nn.Module):
    """Head that fails on a batch of a single pair."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).squeeze()


class NeedsTwenty(nn.Module):
    """Head that can be trained only on batches of 10 to 20 pairs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not 10 <= len(x) <= 20:
            raise ValueError(f"{len(x)} pairs")
        return self.layer(x)


class WritesIntoWhatItNeeds(nn.Module):
    """Head that fails only in the backward pass; a branch prevents stacking, which would change a copy instead."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        output = self.layer(x).sigmoid()
        if self.training:
            output.mul_(2 if x.isfinite().all() else 3)
        return output


class LazyNorm(nn.Sequential):
    """Has lazy layers, which infer their sizes from the first input."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(nn.Flatten(), nn.LazyLinear(10), nn.LazyBatchNorm1d())


class BatchStatistics(nn.Sequential):
    """Has a batch norm without running statistics."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(
            nn.Flatten(), nn.Linear(shape[1] * shape[2], 10), nn.BatchNorm1d(10, track_running_stats=False)
        )


class ChangesCheckpoint(Callback):
    """Overwrites or adds an entry of a checkpoint."""

    def __init__(self, name: str = "hyper_parameters") -> None:
        self.name = name

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[self.name] = {"hyper_parameters": {"lr": 1}, "epoch": 77, "note": "mine"}.get(self.name)


class DrawsEarly(Callback):
    """Adds noise drawn in its constructor, in its setup and at the start of each epoch."""

    def __init__(self) -> None:
        self.noise = torch.rand(()) + random.random() + float(np.random.rand())
        self.epoch = torch.zeros(())

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.noise = self.noise + torch.rand(()) + random.random()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epoch = torch.rand(()) + float(np.random.rand())

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: StackBatch, batch_idx: int
    ) -> None:
        batch.images.add_(self.noise + self.epoch)


class Announces(Callback):
    """Sends this process the signal with which a cluster announces the end of a job."""

    def __init__(self, epoch: int = 1) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            signal.raise_signal(signal.SIGUSR1)
