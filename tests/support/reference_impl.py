"""Reference implementation of one round in plain torch, independent of the stacked code that is compared with it."""

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairs_lit.nn.architecture import Architecture
from pairs_lit.nn.heads import ArgmaxHead, DigitHead, PowerHead, SoftmaxHead
from pairs_lit.nn.pair_stack import PairStack
from pairs_lit.seeds import derive_seed
from pairs_lit.stacking.looped import LoopedCopies
from pairs_lit.stacking.ops.dropout import StackedDropout
from pairs_lit.stacking.stacked_network import StackedNetwork
from pairs_lit.training.losses import PairLoss

OPERATORS = {"le": operator.le, "lt": operator.lt, "ge": operator.ge, "gt": operator.gt}
ACTIVATIONS = {
    "none": lambda z: z,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softmax": lambda z: z.softmax(-1),
}
GetTensors = Callable[[nn.Module], dict[str, Tensor]]


@contextmanager
def manual_seed(seed: int) -> Iterator[None]:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        yield


def build_plain(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a plain module after ``torch.manual_seed(seed)``."""
    with manual_seed(seed):
        return factory()


def check_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9, equal_nan=True)


def get_states(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.state_dict())


def get_parameters(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in module.named_parameters()}


def get_gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.grad for name, value in module.named_parameters() if value.grad is not None}


def get_copy_tensors(stacked: nn.Module, copy: int, named: GetTensors) -> dict[str, Tensor]:
    """Return the tensors of one copy in a stacked part."""
    if isinstance(stacked, LoopedCopies):
        return named(stacked.copies[copy])
    return {name: value[copy] for name, value in named(stacked).items()}


def list_fused_layers(network: StackedNetwork, *, training: bool = True) -> list[str]:
    """Return the names of the layers that are fused with a max-pool and ReLU."""
    calls = [node for node in network._programs[training].nodes if node.op == "call_module"]
    return [str(node.target) for node in calls if len(node.args) > 1 and node.args[1] is True]


class MaskedDropout(nn.Module):
    """Dropout with the masks of one copy of a stacked dropout."""

    def __init__(self, p: float, stacked: StackedDropout, copy: int) -> None:
        super().__init__()
        self._p = p
        self._mask = stacked.compute_mask  # a bound method, so that torch does not register a child module
        self._copy = copy

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * self._mask(x.shape, x.device)[self._copy].to(x.dtype) / (1 - self._p)


def use_masks(plain: nn.Module, stacked: nn.Module, copy: int) -> None:
    """Replace the dropout layers of a plain module by layers with the masks of one copy of a stacked module."""
    sources = iter([layer for layer in stacked.modules() if isinstance(layer, StackedDropout)])
    for parent in list(plain.modules()):
        for name, child in parent.named_children():
            if type(child) in (nn.Dropout, nn.Dropout2d) and child.p > 0:
                setattr(parent, name, MaskedDropout(child.p, next(sources), copy))
    assert next(sources, None) is None


class PlainOutput(NamedTuple):
    output: Tensor
    kind: str
    digit_logits: Tensor | None


class PlainNetwork(nn.Module):
    """One round's network: images (B, 2, H, W) → Answer."""

    def __init__(self, design: Architecture, seed: int) -> None:
        super().__init__()
        self.design, self.seed = design, seed
        channels = 2 if design.sharing == "joint" else 1
        shape = (channels, design.image_size, design.image_size)
        with manual_seed(seed):
            self.backbones = nn.ModuleList(design.backbone(shape) for _ in range(1 + (design.sharing == "separate")))
            width = _get_width(self.backbones[0], shape)
            self.readout = nn.Linear(width, 10) if design.readout == "linear" else None
            self.head = design.head(width if design.sharing == "joint" else 2 * width)
        self._stack: PairStack | None = None

    def use_random_numbers_of(self, stack: PairStack, place: int) -> "PlainNetwork":
        """Use the random numbers of the round at this place of a stack."""
        self._stack = stack
        for plain, stacked in self._pair_parts(stack):
            _use_masks_unless_looped(plain, stacked, place)
        return self

    def _pair_parts(self, stack: PairStack) -> list[tuple[nn.Module, nn.Module]]:
        """Return the parts of this network, in the order of its state, each with its stack."""
        network = stack.network
        parts = [*zip(self.backbones, network.backbones, strict=True)]
        if self.readout is not None:
            parts.append((self.readout, network.readout))
        return [*parts, (self.head, network.head)]

    def get_values(self, stack: PairStack, place: int, named: GetTensors) -> list[Tensor]:
        """Return the tensors of one round of a stack, in the order of this network's state."""
        parts = [get_copy_tensors(stacked, place, named) for _, stacked in self._pair_parts(stack)]
        return [value for part in parts for value in part.values()]

    def forward(self, images: Tensor) -> PlainOutput:
        embedding = self._compute_embeddings(images)
        active = ACTIVATIONS[self.design.code_activation](embedding).flatten(1)
        digit_logits = self.readout(embedding) if self.readout is not None else None
        if self.design.readout == "identity":
            digit_logits = embedding
        if isinstance(self.head, DigitHead):
            p = compute_digit_probabilities(self.head, active.view(-1, 2, 10))
            return PlainOutput(compute_probability_by_loops(self.design.relation, p), "probability", digit_logits)
        output = self._call(self.head, ".head", 0, active)
        return PlainOutput(output, "logit" if output.shape[1] == 1 else "logits", digit_logits)

    def _compute_embeddings(self, images: Tensor) -> Tensor:
        pairs, _, *sides = images.shape
        if self.design.sharing == "joint":
            return self._call(self.backbones[0], "branch", 0, images)
        if self.design.sharing == "separate":
            branches = enumerate(self.backbones)
            return torch.stack([self._call(net, "branch", i, images[:, i : i + 1]) for i, net in branches], 1)
        return self._call(self.backbones[0], "branch", 0, images.reshape(2 * pairs, 1, *sides)).view(pairs, 2, -1)

    def _call(self, part: nn.Module, name: str, copy: int, x: Tensor) -> Tensor:
        if self._stack is None or not self.training:
            return part(x)
        clock, network = self._stack.clock, self._stack.network
        stacked = network.head if name == ".head" else network.backbones[copy]
        if not isinstance(stacked, LoopedCopies):
            return part(x)
        with manual_seed(derive_seed(self.seed, name, copy, clock.epoch, clock.step)):
            return part(x)


def _get_width(backbone: nn.Module, shape: Sequence[int]) -> int:
    with torch.no_grad():
        width = backbone.eval()(torch.zeros(1, *shape)).shape[1]
    backbone.train()
    return width


def _use_masks_unless_looped(plain: nn.Module, stacked: nn.Module, copy: int) -> None:
    if not isinstance(stacked, LoopedCopies):
        use_masks(plain, stacked, copy)


def compute_digit_probabilities(head: nn.Module, z: Tensor, exponent: float = 6.0) -> Tensor:
    """Return the digit probabilities of a head, computed by its formula."""
    if isinstance(head, SoftmaxHead):
        return z.exp() / z.exp().sum(-1, keepdim=True)
    if isinstance(head, PowerHead):
        powers = (z - z.min(-1, keepdim=True).values) ** exponent
        return powers / powers.sum(-1, keepdim=True)
    assert isinstance(head, ArgmaxHead)
    return (z == z.max(-1, keepdim=True).values).to(z.dtype)


def compute_probability_by_loops(relation: str, p: Tensor) -> Tensor:
    """Return P(relation), the sum over all digits i, j in relation, from digit probabilities p (B, 2, 10)."""
    related = [(i, j) for i in range(10) for j in range(10) if OPERATORS[relation](i, j)]
    return torch.stack([p[:, 0, i] * p[:, 1, j] for i, j in related]).sum(0)


def compute_round_loss(
    loss: PairLoss, prediction: PlainOutput, digits: Tensor, target: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return total, target and digit loss of one round, computed by torch's loss classes."""
    zero = prediction.output.new_zeros(())
    target_loss = zero if loss.target == "none" else _compute_target_loss(loss.target, prediction, target)
    digit_loss = zero
    if loss.digits != "none":
        losses = [_compute_class_loss(loss.digits, prediction.digit_logits[:, i], digits[:, i]) for i in (0, 1)]
        digit_loss = (losses[0] + losses[1]) / (1 if loss.digit_reduction == "sum" else 2)
    return loss.target_weight * target_loss + loss.aux_weight * digit_loss, target_loss, digit_loss


def _compute_target_loss(name: str, prediction: PlainOutput, target: Tensor) -> Tensor:
    output, real = prediction.output, target.to(prediction.output.dtype)
    if prediction.kind == "logit":
        return nn.BCEWithLogitsLoss()(output[:, 0], real)
    if prediction.kind == "logits":
        return _compute_class_loss(name, output, target)
    p = output.clamp(1e-6, 1 - 1e-6)
    if name == "ce":
        return nn.NLLLoss()(torch.stack([1 - p, p], 1).log(), target)
    return nn.BCELoss()(p, real) if name == "bce" else nn.MSELoss()(output, real)


def _compute_class_loss(name: str, logits: Tensor, classes: Tensor) -> Tensor:
    if name == "ce":
        return nn.CrossEntropyLoss()(logits, classes)
    return nn.MSELoss()(logits, F.one_hot(classes, logits.shape[1]).to(logits.dtype))


class Batch(NamedTuple):
    """Batches of R rounds: images (R, B, 2, H, W), digits (R, B, 2), target (R, B)."""

    images: Tensor
    digits: Tensor
    target: Tensor


def draw_batch(rounds: int, pairs: int, size: int = 14, dtype: torch.dtype = torch.float64, *, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(rounds, pairs, 2, size, size, generator=generator, dtype=torch.float64).to(dtype)
    digits = torch.randint(10, (rounds, pairs, 2), generator=generator)
    return Batch(images, digits, (digits[..., 0] <= digits[..., 1]).long())


@dataclass(frozen=True)
class RoundData:
    """A round's training, validation and test pairs, by split."""

    images: dict[str, Tensor]
    digits: dict[str, Tensor]
    target: dict[str, Tensor]


def draw_round_data(root: Path, seed: int, train: int, val: int, test: int) -> RoundData:
    """Draw the pairs of one round from files in MNIST's format (relation le, raw pixels, 14×14), as documented."""
    images, digits, target = {}, {}, {}
    pixels, labels = _read_idx(root, "train")
    order = _draw_permutation(len(labels), seed, "held-out images")
    pools = {"train": (pixels, labels, order[2 * val :]), "val": (pixels, labels, order[: 2 * val])}
    pixels, labels = _read_idx(root, "t10k")
    pools["test"] = pixels, labels, torch.arange(len(labels))
    for (split, (pixels, labels, pool)), count in zip(pools.items(), (train, val, test), strict=True):
        index = pool[_draw_permutation(len(pool), seed, f"{split} pairs")[: 2 * count]].view(count, 2)
        images[split], digits[split] = pixels[index], labels[index]
        target[split] = (digits[split][:, 0] <= digits[split][:, 1]).long()
    return RoundData(images, digits, target)


def draw_shuffle(size: int, seed: int, epoch: int) -> Tensor:
    return _draw_permutation(size, seed, "shuffle", epoch)


def _draw_permutation(size: int, seed: int, *name: object) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(derive_seed(seed, *name)))


def _read_idx(root: Path, name: str) -> tuple[Tensor, Tensor]:
    raw = root / "MNIST" / "raw"
    labels = np.frombuffer((raw / f"{name}-labels-idx1-ubyte").read_bytes()[8:], np.uint8).astype(np.int64)
    pixels = np.frombuffer((raw / f"{name}-images-idx3-ubyte").read_bytes()[16:], np.uint8).reshape(-1, 14, 2, 14, 2)
    return torch.from_numpy(pixels.astype(np.float32).mean((2, 4))), torch.from_numpy(labels)


def build_stack(design: Architecture, seeds: Sequence[int], *, training: bool = True) -> PairStack:
    """Build a stack in double precision."""
    stack = PairStack.build(design, seeds)
    stack.network.double().train(training)
    return stack
