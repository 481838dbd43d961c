"""Tests of CNNs with padded convolutions, convolutions without bias, and dropout before the last layer."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pairs_lit.errors import PairsLitError
from pairs_lit.nn.architecture import Architecture
from pairs_lit.nn.backbones import CNN
from pairs_lit.nn.heads import SoftmaxHead
from pairs_lit.stacking.looped import LoopedCopies
from pairs_lit.stacking.stacked_network import VmapNetwork
from tests.support import reference_impl
from tests.support.reference_impl import PlainNetwork

SHAPE = (1, 14, 14)
SETTINGS: dict[str, Any] = {
    "channels": (32, 32, 64, 64, 128, 128),
    "paddings": [1, 1, 1, 1, 0, 0],
    "conv_bias": False,
    "batch_norm": ("maps",),
    "pools": [1, 2, 1, 1, 1, 1],
    "flat_dropout": 0.4,
    "widths": (10,),
}
THIN = SETTINGS | {"channels": (3, 4, 5, 4, 6, 5)}


def build_layer_by_layer(channels: tuple[int, ...] = (32, 32, 64, 64, 128, 128)) -> nn.Sequential:
    """Return the network of SETTINGS, built layer by layer."""
    layers: list[nn.Module] = []
    in_channels = 1
    for place, out_channels in enumerate(channels):
        padding = 0 if place > 3 else 1
        layers.append(nn.Conv2d(in_channels, out_channels, 3, padding=padding, bias=False))
        layers.append(nn.BatchNorm2d(out_channels))
        layers += [nn.ReLU(), nn.MaxPool2d(2)] if place == 1 else [nn.ReLU()]
        in_channels = out_channels
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.4), nn.Linear(9 * in_channels, 10))


def test_padded_blocks_equal_the_network_built_layer_by_layer() -> None:
    cnn, plain = (
        reference_impl.build_plain(partial(CNN, SHAPE, **SETTINGS), 3),
        reference_impl.build_plain(build_layer_by_layer, 3),
    )
    assert repr(cnn).splitlines()[1:] == repr(plain).splitlines()[1:]
    for (name, value), (plain_name, expected) in zip(cnn.named_parameters(), plain.named_parameters(), strict=True):
        assert name == plain_name
        assert torch.equal(value, expected)
    assert sum(value.numel() for value in cnn.parameters()) == 298_410


def build_design(**settings: object) -> Architecture:
    return Architecture(partial(CNN, **THIN | settings), SoftmaxHead, "shared", "identity", "none", "le", 14)


def compute_gradients(module: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    names, values = zip(*module.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, values), strict=True))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"kernels": [5, 3, 3, 2, 3, 3], "paddings": [4, 2, 1, 1, 0, 0]},
        {"kernels": 4, "paddings": 2, "pools": [2, 1, 2, 1, 1, 1], "batch_norm": ()},
        {"conv_bias": True, "batch_norm": (), "conv_dropout": 0.2},
    ],
    ids=["record", "kernels", "even kernels", "biases"],
)
def test_stacked_padded_blocks_equal_plain_torch(settings: dict[str, Any]) -> None:
    seeds = [4, 5, 6]
    parts = build_design(**settings)
    stack = reference_impl.build_stack(parts, seeds)
    assert not any(isinstance(part, LoopedCopies | VmapNetwork) for part in stack.network.modules())
    batch = reference_impl.draw_batch(3, 6)
    output = stack(batch.images)
    stacked_gradients = compute_gradients(stack.network, output.digit_logits.square().sum())
    for place, seed in enumerate(seeds):
        plain = PlainNetwork(parts, seed).double().use_random_numbers_of(stack, place)
        expected = plain(batch.images[place])
        reference_impl.check_close(output.output[place], expected.output)
        reference_impl.check_close(output.digit_logits[place], expected.digit_logits)
        plain_gradients = compute_gradients(plain, expected.digit_logits.square().sum())
        for gradient, plain_gradient in zip(stacked_gradients.values(), plain_gradients.values(), strict=True):
            reference_impl.check_close(gradient[place], plain_gradient)
    stack.network.eval()
    assert (stack(batch.images).output != output.output).all()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"paddings": [1]}, "CNN.paddings must be one value or a list of 2, .* got a list of 1"),
        ({"paddings": -1}, r"CNN\.paddings must be 0 or more and below the kernel sizes \[3, 3\], got \[-1, -1\]"),
        (
            {"paddings": [1, 3]},
            r"CNN\.paddings must be 0 or more and below the kernel sizes \[3, 3\], got \[1, 3\]",
        ),
        ({"flat_dropout": 1.0}, r"CNN.*flat_dropout must contain only values of 0 or more and below 1, got \[1.0\]"),
        ({"paddings": 1, "pools": [4, 4]}, r"kernels \[3, 3\], paddings \[1, 1\] and pools \[4, 4\] are too large"),
    ],
)
def test_invalid_paddings_and_dropouts_are_rejected(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(PairsLitError, match=match):
        CNN(SHAPE, **arguments)
