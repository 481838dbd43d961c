"""Weight decay of weights only: which parameters decay, and equality with plain torch and two parameter groups."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pairs_lit.cli import main
from pairs_lit.errors import PairsLitError
from pairs_lit.nn.backbones import CNN
from pairs_lit.nn.heads import MLP
from pairs_lit.stacking.looped import LoopedCopies, LoopedRounds
from pairs_lit.training.losses import PairLoss
from pairs_lit.training.module import PairModule
from pairs_lit.training.optimizers import PER_ELEMENT_OPTIMIZERS
from tests.conftest import Fit
from tests.support import reference_impl
from tests.support.designs import (
    DESIGN,
    SEEDS,
    LoopedBackbone,
    build_stack_batches,
    build_two_groups,
    check_same_values,
)
from tests.support.reference_impl import PlainNetwork
from tests.support.runs import build_checkpoint_arguments

NORMED_CNN = partial(CNN, channels=(3, 2), widths=(6, 10), batch_norm=("maps", "hidden", "code"))
DEEP_MLP = partial(MLP, hidden=(7,), batch_norm=True)


class Everything(nn.Module):
    """All kinds of layers with parameters, and a parameter outside layers."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv, self.whole = nn.Conv2d(shape[0], 4, 3, stride=2), nn.LayerNorm([4, 6, 6])
        self.groups, self.slope = nn.GroupNorm(2, 4), nn.PReLU(4)
        self.patches = nn.Linear(36, 8)
        self.places = nn.Parameter(torch.randn(4, 8) / 8)
        self.each, self.last = nn.LayerNorm(8), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.slope(self.groups(self.whole(self.conv(x))))
        return self.last(self.each(self.patches(maps.flatten(2)) + self.places).flatten(1))


class Looped(Everything):
    """The same network, whose data-dependent branch makes it run as copies in a loop."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if float(x.sum()) > -1e9 else x


class DifferentEachRound(Everything):
    """The same network with an attribute that differs from round to round."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape)
        self.sign = 1 + torch.rand(()).item()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.sign


NOT_DECAYED = {"conv.bias", "patches.bias", "last.bias", "slope.weight"}


NOT_DECAYED |= {f"{norm}.{name}" for norm in ("whole", "groups", "each") for name in ("weight", "bias")}


DECAYED = {"conv.weight", "patches.weight", "last.weight", "places"}


@pytest.mark.parametrize(
    ("backbone", "kind"), [(Everything, None), (Looped, LoopedCopies), (DifferentEachRound, LoopedRounds)]
)
def test_weights_decay_but_biases_and_norms_do_not(backbone: type[nn.Module], kind: type[nn.Module] | None) -> None:
    module = PairModule(seeds=SEEDS, backbone=backbone, head=MLP, decay="weights")
    assert (kind is None) == (not any(isinstance(part, LoopedCopies | LoopedRounds) for part in module.modules()))
    assert kind is None or any(isinstance(part, kind) for part in module.modules())
    optimizer = module.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    for group, names, head in zip(module.optimization.groups, (DECAYED, NOT_DECAYED), ("weight", "bias"), strict=True):
        in_branch = {view.name for view in group if ".branch." in view.name}
        matched = {
            next(name for name in DECAYED | NOT_DECAYED if f".{full}".endswith(f".{name}")) for full in in_branch
        }
        assert matched == names
        assert [view.name for view in group if ".head." in view.name] == [f"stacks.0.head.0.{head}"]


def get_settings(kind: type[torch.optim.Optimizer]) -> dict[str, Any]:
    more: dict[str, Any] = {"momentum": 0.9} if kind is torch.optim.SGD else {"eps": 1e-4}
    return {"lr": 0.01, "weight_decay": 0.1} | more


@pytest.mark.parametrize("backbone", [NORMED_CNN, LoopedBackbone], ids=["stacked", "looped"])
@pytest.mark.parametrize("kind", PER_ELEMENT_OPTIMIZERS)
@pytest.mark.quick(5)
def test_training_equals_plain_torch_with_two_groups(kind: type[torch.optim.Optimizer], backbone: Any) -> None:  # noqa: ANN401
    design = replace(DESIGN, backbone=backbone, head=DEEP_MLP, sharing="separate", readout="linear")
    loss, make = PairLoss(digits="ce", aux_weight=0.5), partial(kind, **get_settings(kind))
    parts = {"backbone": backbone, "head": DEEP_MLP, "sharing": "separate", "readout": "linear", "loss": loss}
    module = PairModule(seeds=SEEDS, stack_size=2, optimizer=make, decay="weights", **parts).double()
    rounds = [
        PlainNetwork(design, seed).double().use_random_numbers_of(module.pair_stacks[place // 2], place % 2)
        for place, seed in enumerate(SEEDS)
    ]
    optimizers = [make(build_two_groups(network)) for network in rounds]
    stacked = module.configure_optimizers()
    for _ in range(3):
        for index, batch in enumerate(build_stack_batches(SEEDS, 2, [5, 3])):
            module.training_step(batch, index).backward()
            stacked.step()
            for r in range(len(batch.target)):
                place = 2 * batch.stack + r
                optimizers[place].zero_grad()
                output = rounds[place](batch.images[r])
                reference_impl.compute_round_loss(loss, output, batch.digits[r], batch.target[r])[0].backward()
                optimizers[place].step()
    for place, plain in enumerate(rounds):
        check_same_values(plain, module.pair_stacks[place // 2], place % 2, reference_impl.get_states)


ADAMW = ("--model.optimizer", "torch.optim.AdamW", "--model.optimizer.weight_decay", "0.5", "--model.optimizer.lr=0.01")


def read_tables(run: Any) -> list[bytes]:  # noqa: ANN401
    return [(run / name).read_bytes() for name in ("rounds.csv", "curves.csv")]


def test_decay_groups_do_not_change_a_fit_without_weight_decay(fit: Fit) -> None:
    assert read_tables(fit("--model.decay", "weights")) == read_tables(fit())


@pytest.mark.slow
def test_a_fit_with_decaying_weights_resumes_exactly(fit: Fit) -> None:
    options = (*ADAMW, "--model.decay", "weights", "--rounds.stack_size", "2")
    whole, part = fit(*options, "--trainer.max_epochs", "3"), fit(*options, "--trainer.max_epochs", "1")
    assert main(["fit", *build_checkpoint_arguments(part), "--trainer.max_epochs", "3"]) == 0
    assert read_tables(part) == read_tables(whole)
    assert read_tables(whole) != read_tables(fit(*ADAMW, "--rounds.stack_size", "2", "--trainer.max_epochs", "3"))
    assert read_tables(whole) == read_tables(fit(*options, "--trainer.max_epochs", "3", "--trainer.devices", "2"))


def test_a_fit_cannot_be_resumed_with_another_decay(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit(*ADAMW, "--trainer.max_epochs", "1")
    assert main(["fit", *build_checkpoint_arguments(run), "--trainer.max_epochs", "2", "--model.decay", "weights"]) == 2
    assert "its optimizer's state is not what this config" in capsys.readouterr().err


def test_an_unknown_decay_is_rejected() -> None:
    with pytest.raises(PairsLitError, match=r"model.decay must be one of 'all', 'weights', got 'biases'"):
        PairModule(seeds=[0], backbone=NORMED_CNN, head=MLP, decay="biases")
