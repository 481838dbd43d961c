"""The networks of the benchmarks in plain PyTorch, one round each, as a student would write them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

CONFIGS = Path(__file__).parent.parent / "configs"


class PairNetwork(nn.Module):
    """Network that embeds both digits of a pair with one branch and compares the embeddings with a head.

    Args:
        branch: (N, 1, 14, 14) → (N, F).
        head: (N, 2·F) → (N, 1) or (N, 2).
        readout: (N, F) → (N, 10) digit logits; None uses the embedding itself.
        code_relu: Whether a ReLU is applied to the embedding before the head.
    """

    def __init__(
        self, branch: nn.Module, head: nn.Module, readout: nn.Module | None = None, *, code_relu: bool = False
    ) -> None:
        super().__init__()
        self.branch = branch
        self.readout = nn.Identity() if readout is None else readout
        self.head = head
        self.code_relu = code_relu

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return output and digit logits (N, 2, 10) of pairs (N, 2, 14, 14)."""
        embedding = self.branch(images.flatten(0, 1).unsqueeze(1)).unflatten(0, (-1, 2))
        digits = self.readout(embedding)
        return self.head((embedding.relu() if self.code_relu else embedding).flatten(1)), digits


def build_dense_layers(widths: Sequence[int], *, batch_norm: bool = False) -> list[nn.Module]:
    """Return fully connected layers with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if batch_norm else []), nn.ReLU()]
    return layers[: -2 if batch_norm else -1]


def build_conv_block(before: int, after: int, *extra: nn.Module) -> list[nn.Module]:
    """Return a convolution, the extra layers, a max-pool and a ReLU."""
    return [nn.Conv2d(before, after, 3), *extra, nn.MaxPool2d(2), nn.ReLU()]


def build_fc() -> nn.Module:
    """Return belhadj's FC."""
    return PairNetwork(
        nn.Sequential(nn.Flatten(), *build_dense_layers([196, 10, 10])), nn.Linear(20, 1), code_relu=True
    )


def build_cnn() -> nn.Module:
    """Return belhadj's CNN."""
    branch = nn.Sequential(
        *build_conv_block(1, 16), *build_conv_block(16, 8), nn.Flatten(), *build_dense_layers([32, 10, 10])
    )
    return PairNetwork(branch, nn.Linear(20, 1), code_relu=True)


def build_net2() -> nn.Module:
    """Return hakobyan's Net2."""
    branch = nn.Sequential(
        *build_conv_block(1, 10),
        *build_conv_block(10, 20, nn.Dropout(0.2)),
        nn.Flatten(),
        *build_dense_layers([80, 80, 10]),
    )
    return PairNetwork(branch, nn.Sequential(*build_dense_layers([20, 50, 2])))


def build_model4() -> nn.Module:
    """Return pillonel's Model 4."""
    branch = nn.Sequential(
        *build_conv_block(1, 32, nn.BatchNorm2d(32)), *build_conv_block(32, 64, nn.BatchNorm2d(64)), nn.Flatten()
    )
    head = nn.Sequential(
        *build_dense_layers([512, 256, 128, 64], batch_norm=True), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 1)
    )
    return PairNetwork(branch, head, nn.Linear(256, 10))


def build_model_a() -> nn.Module:
    """Return grall's Model A."""
    last = [nn.Conv2d(128, 256, 2), nn.ReLU(), nn.Flatten(), *build_dense_layers([256, 128, 10])]
    return PairNetwork(
        nn.Sequential(*build_conv_block(1, 64), *build_conv_block(64, 128), *last),
        nn.Sequential(*build_dense_layers([20, 20, 2])),
    )


def build_siamese() -> nn.Module:
    """Return gardoni's Siamese WS,AUX,BN."""
    convolutions = [
        *build_conv_block(1, 32, nn.BatchNorm2d(32)),
        *build_conv_block(32, 64, nn.BatchNorm2d(64)),
        nn.Flatten(),
    ]
    branch = nn.Sequential(*convolutions, *build_dense_layers([256, 200, 10]), nn.BatchNorm1d(10))
    return PairNetwork(branch, nn.Sequential(*build_dense_layers([20, 20, 20, 1])))


class CourseCNN(nn.Module):
    """The branch of belhadj's CNN, written as a class with a ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3)
        self.conv2 = nn.Conv2d(16, 8, 3)
        self.fc1 = nn.Linear(32, 10)
        self.fc2 = nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the embeddings of images."""
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.fc2(F.relu(self.fc1(x.view(-1, 32))))  # type: ignore[no-any-return]


class ResidualBlock(nn.Module):
    """Two convolutions with batch norm and a shortcut around them.

    Args:
        before: Channels of the input.
        after: Channels of the output.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps of the same height and width."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResidualBranch(nn.Module):
    """A small residual branch with batch norm and 52,000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.block1, self.block2 = ResidualBlock(1, 28), ResidualBlock(28, 56)
        self.out = nn.Linear(56, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the embeddings of images."""
        x = F.max_pool2d(self.block1(x), 2)
        x = self.block2(x).mean((2, 3))
        return self.out(x)  # type: ignore[no-any-return]


class ResNet18(nn.Module):
    """torchvision's ResNet-18 on images enlarged to 32×32."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = torchvision.models.resnet18(num_classes=10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the embeddings of images."""
        x = F.interpolate(x, size=32, mode="bilinear").expand(-1, 3, -1, -1)
        return self.resnet(x)  # type: ignore[no-any-return]


def build_course() -> nn.Module:
    """Return belhadj's CNN, written as a class."""
    return PairNetwork(CourseCNN(), nn.Linear(20, 1), code_relu=True)


def build_residual() -> nn.Module:
    """Return a small residual network."""
    return PairNetwork(ResidualBranch(), nn.Linear(20, 1), code_relu=True)


def build_resnet18() -> nn.Module:
    """Return a ResNet-18."""
    return PairNetwork(ResNet18(), nn.Linear(20, 1), code_relu=True)


@dataclass(frozen=True)
class BenchmarkNetwork:
    """One row of the benchmark.

    Attributes:
        title: Name in the table.
        config: Bundled config, which sets data and batch size.
        build: Function that builds the plain network.
        aux_weight: Weight of the sum of both digit losses.
        sgd_settings: Learning rate and momentum of SGD, or None for Adam with learning rate 0.001.
        epochs: Epochs per measurement. Fast networks have more, because a short disturbance, or writing a checkpoint,
            would count too much in a few short epochs.
        network_path: Import path for ``model.network``, or None to use the parts of the config.
        data_changes: Options that override the config's ``data`` section.
    """

    title: str
    config: str
    build: Callable[[], nn.Module]
    aux_weight: float
    sgd_settings: tuple[float, float] | None
    epochs: int
    network_path: str | None = None
    data_changes: dict[str, Any] = field(default_factory=dict)

    def build_optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return the recipe's optimizer."""
        if self.sgd_settings is None:
            return torch.optim.Adam(parameters, lr=0.001)
        return torch.optim.SGD(parameters, lr=self.sgd_settings[0], momentum=self.sgd_settings[1])

    def compute_loss(self, output: tuple[Tensor, Tensor], digits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of one batch, given the network's output and digit logits."""
        answer, digit_logits = output
        if answer.shape[1] == 1:
            loss = F.binary_cross_entropy_with_logits(answer.squeeze(1), target.float())
        else:
            loss = F.cross_entropy(answer, target)
        if self.aux_weight:
            first, second = (F.cross_entropy(digit_logits[:, place], digits[:, place]) for place in (0, 1))
            loss = loss + self.aux_weight * (first + second)
        return loss


def get_correct(answer: Tensor, target: Tensor) -> Tensor:
    """Return which predictions are correct."""
    predicted = answer.squeeze(1) > 0 if answer.shape[1] == 1 else answer.argmax(1)
    return predicted == target


RESNET18_PAIR_COUNTS = {"train_pairs": 100, "val_pairs": 100, "test_pairs": 100}
"""With 1,000 pairs, an epoch of a ResNet-18 takes ten seconds."""

NETWORKS = {
    "fc": BenchmarkNetwork("belhadj FC", "fc.yaml", build_fc, 0.0, None, 8),
    "cnn_aux": BenchmarkNetwork("belhadj CNN_aux", "cnn_aux.yaml", build_cnn, 0.5, None, 5),
    "net2": BenchmarkNetwork("hakobyan Net2", "reports/hakobyan/net2.yaml", build_net2, 1.0, (0.01, 0.0), 5),
    "model4": BenchmarkNetwork("pillonel Model 4", "reports/pillonel/model4.yaml", build_model4, 1.0, None, 3),
    "model_a": BenchmarkNetwork(
        "grall Model A", "reports/grall/a_target_classes_ce.yaml", build_model_a, 1.0, (0.1, 0.0), 3
    ),
    "siamese": BenchmarkNetwork("gardoni WS,AUX,BN", "reports/gardoni/ws_aux_bn.yaml", build_siamese, 0.5, None, 3),
    "course": BenchmarkNetwork(
        "CNN_aux as a class", "cnn_aux.yaml", build_course, 0.5, None, 5, "networks.build_course"
    ),
    "residual": BenchmarkNetwork(
        "residual class", "cnn_aux.yaml", build_residual, 0.5, None, 3, "networks.build_residual"
    ),
    "resnet18": BenchmarkNetwork(
        "ResNet-18 at 32×32",
        "cnn_aux.yaml",
        build_resnet18,
        0.5,
        None,
        7,
        "networks.build_resnet18",
        RESNET18_PAIR_COUNTS,
    ),
}
