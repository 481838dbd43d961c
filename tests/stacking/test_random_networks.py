"""Tests of small random networks: a stack trains like plain copies, compared in float64."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from pairs_lit.stacking.looped import LoopedCopies
from pairs_lit.stacking.stacked_network import StackedNetwork
from tests.support.stack_checks import build_checked_stack, compute_round_loss, run_step

EXAMPLES = int(os.environ.get("PAIRS_LIT_EXAMPLES", "60"))
MAPS, ROWS = 3, 2
"""Number of dimensions of one input's value: maps (C, H, W), rows (L, F), or else (F,)."""
Shape = tuple[int, ...]


class Op(NamedTuple):
    """Operation of a network: its kind, two numbers that determine its details, and how far back a second value is."""

    kind: str
    a: int
    b: int
    back: int


def conv(op: Op, shape: Shape) -> nn.Module | None:
    if len(shape) != MAPS:
        return None
    groups = shape[0] if op.a % 4 == 3 else 1
    kernel, padding = 1 + op.b % 3, "same" if op.a % 5 == 4 else op.a % 3 // 2
    stride = 1 if padding == "same" else 1 + op.b % 2
    if min(shape[1:]) < kernel:
        return None
    return nn.Conv2d(shape[0], groups * (1 + op.a % 3), kernel, stride, padding, groups=groups, bias=op.b % 4 > 0)


def norm(op: Op, shape: Shape) -> nn.Module | None:
    options = {"affine": op.a % 4 > 0, "track_running_stats": op.b % 4 > 0, "momentum": 0.1 + op.a / 20}
    return nn.BatchNorm2d(shape[0], **options) if len(shape) == MAPS else nn.BatchNorm1d(shape[0], **options)


def other_norm(op: Op, shape: Shape) -> nn.Module | None:
    if op.a % 2 and len(shape) > 1:
        return nn.GroupNorm(2 if shape[0] % 2 == 0 and op.b % 2 else 1, shape[0])
    return nn.LayerNorm(shape if op.b % 2 else shape[-1:])


def linear(op: Op, shape: Shape) -> nn.Module | None:
    return nn.Linear(shape[-1], 2 + op.a % 4, bias=op.b % 3 > 0)


def activation_layer(op: Op, shape: Shape) -> nn.Module | None:
    return [nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.2), nn.Softmax(1), nn.GELU()][op.a % 5]


def dropout_layer(op: Op, shape: Shape) -> nn.Module | None:
    kinds = [nn.Dropout(0.3), nn.Dropout(0.5, inplace=True), nn.Dropout(0.0)]
    return [*kinds, nn.Dropout2d(0.4)][op.a % 4] if len(shape) == MAPS else kinds[op.a % 3]


def pool_layer(op: Op, shape: Shape) -> nn.Module | None:
    if len(shape) != MAPS or min(shape[1:]) < 2:
        return None
    kinds = [nn.MaxPool2d(2), nn.MaxPool2d(2, 1), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2)]
    return [*kinds, nn.AdaptiveMaxPool2d((1, 2)), nn.MaxPool2d(2, ceil_mode=True)][op.a % 7]


LAYERS: dict[str, Callable[[Op, Shape], nn.Module | None]] = {
    build.__name__: build
    for build in (conv, norm, other_norm, linear, activation_layer, dropout_layer, pool_layer)
}  # fmt: skip


def activation(op: Op, x: Tensor, values: Sequence[Tensor], training: bool) -> Tensor:
    kinds = [F.relu, torch.relu, torch.tanh, partial(F.relu, inplace=True), partial(F.softmax, dim=-1), torch.sigmoid]
    methods = [Tensor.relu, Tensor.relu_, Tensor.exp, partial(F.elu, alpha=0.5), partial(torch.clamp, max=0.75)]
    return [*kinds, *methods][op.a % 11](x)


def dropout(op: Op, x: Tensor, values: Sequence[Tensor], training: bool) -> Tensor:
    if op.a % 3 == 0 and x.dim() == MAPS + 1:
        return F.dropout2d(x, 0.3, training)
    return F.dropout(x, 0.25, training=training, inplace=op.b % 3 == 0)


def pool(op: Op, x: Tensor, values: Sequence[Tensor], training: bool) -> Tensor | None:
    if x.dim() != MAPS + 1 or min(x.shape[2:]) < 2:
        return None
    kinds = [partial(F.max_pool2d, kernel_size=2), partial(F.avg_pool2d, kernel_size=2, stride=1)]
    return [*kinds, partial(F.adaptive_avg_pool2d, output_size=(2, 1))][op.a % 3](x)


def residual(op: Op, x: Tensor, values: Sequence[Tensor], training: bool) -> Tensor | None:
    other = values[-1 - op.back % len(values)]
    if other.shape[1:] != x.shape[1:]:
        return None
    if op.a % 4 == 0 and other is not x:
        x += other
        return x
    return [x - 0.5 * other, torch.maximum(x, other), x + other][op.a % 3]


def cat(op: Op, x: Tensor, values: Sequence[Tensor], training: bool) -> Tensor | None:
    other = values[-1 - op.back % len(values)]
    if other.shape[2:] != x.shape[2:] or other.dim() != x.dim():
        return None
    return torch.cat([x, other], 1) if op.a % 2 else torch.cat((other, x, other), dim=1)


def reduce(op: Op, x: Tensor, values: Sequence[Tensor], training: bool) -> Tensor | None:
    if x.dim() == ROWS + 1:
        return [x.mean(1), x.amax(dim=-1), x.sum(2, keepdim=True), x.max(dim=1).values][op.a % 4]
    if x.dim() != MAPS + 1:
        return x - x.mean(1, keepdim=True)
    kinds = [x.mean((2, 3)), x.amax([2, 3]), x.mean(dim=(-2, -1), keepdim=True), x.sum(dim=(-1, -2)), x.mean(-1)]
    return [*kinds, x.mean([2, 3], True), x.flatten(2).mean(2), x.amax((2, 3), keepdim=True)][op.a % 8]


def reshape(op: Op, x: Tensor, values: Sequence[Tensor], training: bool) -> Tensor | None:
    n, width = x.shape[0], x[0].numel()
    if x.dim() == 2:
        return x.reshape(n, -1, 2, 2) if width % 4 == 0 else x.unsqueeze(1)
    flat = [x.flatten(1), torch.flatten(x, 1), x.reshape(n, -1), x.reshape(-1, width), x.contiguous().view(n, width)]
    if x.dim() == MAPS + 1:
        flat += [x.flatten(2), x.flatten(0, 1).reshape(n, x.shape[1], -1)]
    return flat[op.a % len(flat)]


def transpose(op: Op, x: Tensor, values: Sequence[Tensor], training: bool) -> Tensor | None:
    if x.dim() == 2:
        return x.flip(1)
    if 1 in x.shape[1:]:
        return None  # plain torch 2.14's batch norm misreads the strides of such a gradient on a CPU
    return [x.transpose(1, 2), x.transpose(-1, 1).contiguous(), x.permute(0, *range(x.dim() - 1, 0, -1))][op.a % 3]


def part(op: Op, x: Tensor, values: Sequence[Tensor], training: bool) -> Tensor | None:
    if x.shape[1] < 2:
        return None
    kinds = [x.chunk(2, 1)[op.b % 2], x[:, ::2], x[:, 1:], x[:, :-1], x[..., :1], x.split(1, dim=1)[op.b % 2]]
    return [*kinds, torch.chunk(x, 2, dim=1)[0] * 2, x.narrow(1, 1, 1), x[:, 1].unsqueeze(1)][op.a % 9]


def write(op: Op, x: Tensor, values: Sequence[Tensor], training: bool) -> Tensor | None:
    match op.a % 5:
        case 0:
            x[:, 0] = 0.5
        case 1:
            x *= 1.5
        case 2:
            x.clamp_(max=0.75)
        case 3:
            x.mul_(2).sub_(0.1)
        case _:
            x[:, :1] += 1
    return x


def count(op: Op, x: Tensor, values: Sequence[Tensor], training: bool) -> Tensor | None:
    n = x.size(0)
    return [x / x.shape[0], x - x.mean(0), x + torch.ones(n, *x.shape[1:], dtype=x.dtype), x * (n - 1)][op.a % 4]


CALLS = {
    apply.__name__: apply
    for apply in (activation, dropout, pool, residual, cat, reduce, reshape, transpose, part, write, count)
}


class Net(nn.Module):
    """Runs operations one after the other; operations that do not fit are left out."""

    def __init__(self, ops: Sequence[Op], shape: Shape) -> None:
        super().__init__()
        self.ops: list[Op] = []
        self.layers = nn.ModuleDict()
        shapes = [shape]
        for op in ops:
            self._add(op, shapes)

    def _add(self, op: Op, shapes: list[Shape]) -> None:
        place = str(len(self.ops))
        if op.kind in LAYERS:
            layer = LAYERS[op.kind](op, shapes[-1])
            if layer is None:
                return
            self.layers[place] = layer
            if "orm" in type(layer).__name__ and layer.bias is not None:
                nn.init.uniform_(
                    layer.bias, 0.1, 0.5
                )  # equal values are normalised to 0 ± 1e-17, where ReLU's gradient is arbitrary
        elif op.kind == "scale":
            last = shapes[-1]
            shape = [(1,), last, last[-1:], (last[0], *[1] * (len(last) - 1))][op.a % 4]
            self.register_parameter(f"weight_{place}", nn.Parameter(torch.rand(shape) + 0.5))
        with torch.no_grad(), torch.random.fork_rng([]):
            self.eval()
            output = self._apply_op(len(self.ops), op, [torch.rand(3, *shape) for shape in shapes])
            self.train()
        if output is not None and 0 < output[0].numel() < 200:
            self.ops.append(op)
            shapes.append(tuple(output.shape[1:]))
        else:
            self.layers._modules.pop(place, None)
            self._parameters.pop(f"weight_{place}", None)

    def extra_repr(self) -> str:
        return "; ".join(f"{op.kind} {op.a} {op.b} {op.back}" for op in self.ops)

    def _apply_op(self, place: int, op: Op, values: list[Tensor]) -> Tensor | None:
        x = values[-1]
        if op.kind in LAYERS:
            return self.layers[str(place)](x)
        if op.kind == "scale":
            weight = self.get_parameter(f"weight_{place}")
            return x * weight if op.b % 2 else weight * x + x
        return CALLS[op.kind](op, x, values, self.training)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for place, op in enumerate(self.ops):
            values.append(self._apply_op(place, op, values))
        return values[-1]


numbers = st.integers(0, 12)
kinds = st.sampled_from(["conv", *LAYERS, "scale", *CALLS])
networks = st.lists(st.builds(Op, kinds, numbers, numbers, st.integers(0, 3)), min_size=1, max_size=10)
shapes = st.sampled_from([(1, 6, 6), (2, 5, 4), (3, 7, 7), (4, 3, 3), (6,), (4, 5)])


def can_train_in_plain_torch(network: nn.Module, shape: Shape) -> bool:
    """Return whether a plain network can be trained, because it changes nothing in place that a gradient needs."""
    try:
        run_step(network.double(), torch.rand(3, *shape, dtype=torch.float64), compute_round_loss)
    except RuntimeError as error:
        if "inplace" not in str(error):
            raise
        return False
    return True


LOOPED_FOR = (
    "changed in place through another view",
    # torch allows this for inputs without gradients only, and the probe's inputs have gradients
    "is a view and is being modified inplace. This view is the output of a function that returns multiple views",
)
"""Why random networks may be trained in a loop."""


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(ops=networks, shape=shapes)
def test_a_stacked_random_network_trains_like_plain_copies(ops: list[Op], shape: Shape) -> None:
    def factory() -> nn.Module:
        return Net(ops, shape)

    assume(can_train_in_plain_torch(factory(), shape))
    network = build_checked_stack(factory, shape)
    if isinstance(network, LoopedCopies):
        assert any(reason in network.reason for reason in LOOPED_FOR)
    else:
        assert isinstance(network, StackedNetwork)
