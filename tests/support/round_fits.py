"""Helpers that fit several rounds, or train a single round in plain PyTorch."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.loaders import StackBatch
from pairs_lit.nn.architecture import Architecture
from pairs_lit.nn.backbones import CNN
from pairs_lit.nn.heads import MLP
from pairs_lit.nn.pair_stack import PairStack
from pairs_lit.training.losses import PairLoss
from pairs_lit.training.module import PairModule
from pairs_lit.training.round_runner import RoundRunner
from tests.support import reference_impl
from tests.support.reference_impl import PlainNetwork

BATCH = 8
TRAIN, VAL, TEST = 21, 9, 10
CPU = torch.device("cpu")


RICH_CNN = partial(
    CNN, channels=(3, 2), widths=(6, 10), batch_norm=("maps", "hidden", "code"), conv_dropout=[0.0, 0.2], dropout=0.3
)


DEEP_MLP = partial(MLP, hidden=(7,), batch_norm=True, dropout=0.25)
DESIGN = Architecture(RICH_CNN, DEEP_MLP, "shared", "identity", "relu", "le", 14)
LOSS = PairLoss(digits="ce", aux_weight=0.5)
SGD = partial(torch.optim.SGD, lr=0.02, momentum=0.9)
ADAM = partial(torch.optim.Adam, lr=0.01, eps=1e-4)
NEIGHBOURS = [([5, 6, 7], 3), ([5], 1), ([5, 90, 91], 3), ([80, 5], 2), ([80, 81, 5, 83], 2), ([9, 8, 7, 6, 5], 5)]


def build_data_module(root: Path, seeds: list[int], stack_size: int, **changes: Any) -> PairDataModule:  # noqa: ANN401
    options: dict[str, Any] = {
        "source": "mnist",
        "root": str(root),
        "allow_unverified": True,
        "train_pairs": TRAIN,
        "val_pairs": VAL,
        "test_pairs": TEST,
        "batch_size": BATCH,
        "eval_batch_size": 4,
    }
    return PairDataModule(seeds=seeds, stack_size=stack_size, **options | changes)


def build_pair_module(seeds: list[int], stack_size: int, **changes: Any) -> PairModule:  # noqa: ANN401
    parts: dict[str, Any] = {
        "backbone": DESIGN.backbone,
        "head": DESIGN.head,
        "readout": DESIGN.readout,
        "code_activation": DESIGN.code_activation,
        "loss": LOSS,
        "optimizer": SGD,
    }
    return PairModule(seeds=seeds, stack_size=stack_size, **parts | changes)


class BatchRecorder(Callback):
    """Records the batches of all training steps."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, StackBatch]] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: StackBatch, batch_idx: int
    ) -> None:
        self.batches.append((trainer.current_epoch, batch))


def fit_rounds(
    root: Path,
    folder: Path,
    *,
    count: int,
    seed: int,
    stack_size: int,
    epochs: int = 2,
    **parts: Any,  # noqa: ANN401
) -> tuple[PairModule, BatchRecorder, RoundRunner]:
    runner, recorder = RoundRunner(count=count, seed=seed, stack_size=stack_size), BatchRecorder()
    module = build_pair_module(runner.seeds, stack_size, **parts)
    trainer = Trainer(
        max_epochs=epochs,
        precision="64-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        num_sanity_val_steps=0,
        default_root_dir=folder,
        callbacks=[runner, recorder],
    )
    trainer.fit(module, build_data_module(root, runner.seeds, stack_size))
    return module, recorder, runner


def iterate_batches(
    data: reference_impl.RoundData, seed: int, epoch: int
) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    order = reference_impl.draw_shuffle(TRAIN, seed, epoch)
    for step, index in enumerate(order.split(BATCH)):
        yield step, data.images["train"][index].double(), data.digits["train"][index], data.target["train"][index]


def train_alone(
    plain: PlainNetwork, stack: PairStack, data: reference_impl.RoundData, optimizer: Callable[..., Any]
) -> None:
    plain_optimizer = optimizer(plain.parameters())
    train(plain, stack, data, plain_optimizer, plain_optimizer.step)


def train(
    plain: PlainNetwork,
    stack: PairStack,
    data: reference_impl.RoundData,
    own: torch.optim.Optimizer,
    step_on: Callable[[], object],
) -> None:
    for epoch in range(2):
        for step, images, digits, target in iterate_batches(data, plain.seed, epoch):
            stack.clock.epoch, stack.clock.step = epoch, step
            own.zero_grad()
            reference_impl.compute_round_loss(LOSS, plain(images), digits, target)[0].backward()
            step_on()


def get_final_values(module: PairModule, seed: int, design: Architecture = DESIGN) -> list[Tensor]:
    stack, place = module.rounds.find_stack(module.rounds.seeds.index(seed))
    return PlainNetwork(design, seed).get_values(module.pair_stacks[stack], place, reference_impl.get_states)


def is_bit_equal(actual: list[Tensor], expected: list[Tensor]) -> bool:
    return len(actual) == len(expected) and all(map(torch.equal, actual, expected))


parametrize_neighbours = pytest.mark.parametrize(("seeds", "stack_size"), NEIGHBOURS)
