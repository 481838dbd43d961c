"""Typical networks that a stack must be able to train, each with the shape of one input."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F


class Case(NamedTuple):
    factory: Callable[[], nn.Module]
    shape: tuple[int, ...]


class Course(nn.Module):
    """Typical CNN of a course."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 6, 3)
        self.fc1, self.fc2 = nn.Linear(24, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, 24)
        x = F.dropout(F.relu(self.fc1(x)), training=self.training)
        return self.fc2(x)


class ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 5, 3)
        self.blocks = nn.Sequential(ResidualBlock(5), ResidualBlock(5))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean([2, 3]))


class Dense(nn.Module):
    """Each layer sees the outputs of all earlier layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(1 + 2 * place, 2, 3, padding=1) for place in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x).tanh()], dim=1)
        return F.adaptive_avg_pool2d(x, (1, 1)).flatten(1)


class Siamese(nn.Module):
    """Whole pair network that applies one branch to slices of the pair."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10))
        self.compare = nn.Linear(20, 2)

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        left, right = self.branch(pairs[:, 0:1]), self.branch(pairs[:, 1:2])
        return self.compare(torch.cat((left, right), 1)), torch.stack((left, right), 1)


class Reshaping(nn.Module):
    """Whole pair network that reshapes both images to one batch of 2N."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc, self.compare = nn.Conv2d(1, 3, 3), nn.Linear(27, 10), nn.Linear(20, 1)

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        n = pairs.size(0)
        embedding = self.fc(F.relu(F.max_pool2d(self.conv(pairs.reshape(2 * n, 1, 8, 8)), 2)).view(2 * n, -1))
        digits = embedding.view(n, 2, 10)
        return self.compare(digits.flatten(1)).squeeze(1), digits


class Tied(nn.Module):
    """Autoencoder with a weight shared by encoder and decoder, and a layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.again = nn.Linear(6, 4), nn.Linear(4, 4)
        self.decode = nn.Linear(4, 4)
        self.decode.weight = self.again.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.encode(x).tanh()
        return F.linear(self.decode(self.again(self.again(h)).sigmoid()), self.encode.weight.t())


class Scaled(nn.Module):
    """Uses parameters and buffers directly in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.rand(3, 1, 1)), nn.Parameter(torch.rand(1))
        self.register_buffer("mean", torch.rand(3, 4, 4))
        self.register_buffer("mask", (torch.rand(4) > 0.3).double(), persistent=False)
        self.power = 1.5

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) * self.scale + self.shift
        x = torch.clamp(x, min=-0.5) / (1 + x.abs()) ** self.power
        return (x * self.mask).sum((1, 2)) - self.scale.softmax(0).sum()


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.norm = nn.Linear(6, 6), nn.Linear(6, 6), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.query(x) @ self.key(x).transpose(1, 2) / 6**0.5, dim=-1)
        return self.norm(x + weights @ x).max(dim=1).values


class Multihead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.out = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        mixed, _ = self.attention(x, x, x)
        return self.out(mixed[:, -1])


class ShapeAware(nn.Module):
    """Reads shapes and branches on them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 4
        assert x.shape[1:] == (1, 4, 4)
        x = x.view(x.shape[0], -1) if len(x.shape) > 2 else x
        weights = torch.ones(3, dtype=x.dtype)
        weights[0] = 0.5
        return self.fc(x) * weights.mul_(2) / x.shape[1] + torch.ones(x.size(0), 3, dtype=x.dtype, device=x.device)


class InPlace(nn.Module):
    """Changes its input and intermediate values in place."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x /= 2.5
        x -= 0.1
        x[:, 0] = 0.5
        x = self.relu(x.clamp_(max=0.9))
        y = self.fc(x)
        y.mul_(3).tanh_()
        return y


class Normed(nn.Module):
    """Uses all common normalisations of convolutional networks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.group, self.instance = nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True)
        self.layer, self.prelu, self.fc = nn.LayerNorm([4, 4, 4]), nn.PReLU(4), nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.instance(self.group(self.conv(x))))
        return self.fc(torch.flatten(self.layer(x), 1))


class UpAndDown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 3, 3, stride=2), nn.ConvTranspose2d(3, 2, 3, stride=2)
        self.bigger = nn.Upsample(scale_factor=2, mode="bilinear")

    def forward(self, x: Tensor) -> Tensor:
        up = self.up(F.elu(self.down(x)))
        return F.avg_pool2d(self.bigger(torch.cat([up, x], 1)), 7).flatten(1)


class Sequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.Dropout1d(0.4)
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.drop(F.leaky_relu(self.norm(self.conv(x)), 0.2)).amax(-1))


class Experts(nn.Module):
    """Mixture of experts from a ``ModuleDict``, with a Python loop."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"a": nn.Linear(5, 4), "b": nn.Sequential(nn.Linear(5, 4), nn.Tanh())})
        self.gate, self.depth = nn.Linear(5, 2), 2

    def forward(self, x: Tensor) -> Tensor:
        gates = F.softmax(self.gate(x), dim=1).unbind(1)
        mixed = sum(gate.unsqueeze(1) * part(x) for gate, part in zip(gates, self.parts.values(), strict=True))
        for _ in range(self.depth):
            mixed = torch.where(mixed > 0, mixed, 0.1 * mixed) - mixed.mean(1, keepdim=True)
        return torch.einsum("nf,nf->n", mixed, mixed).unsqueeze(-1)


class Dropouts(nn.Module):
    """Dropout of values and of whole maps, as a layer that is used twice and as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.drop, self.drop2d, self.fc = (
            nn.Conv2d(1, 6, 3),
            nn.Dropout(0.4),
            nn.Dropout2d(0.3),
            nn.Linear(24, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.drop(self.conv(x)), 2))
        x = self.fc(self.drop(self.drop2d(x)).flatten(1))
        if self.training:
            x = F.dropout(x, 0.2)
        return F.dropout2d(x.view(-1, 5, 1, 1), 0.5, self.training).flatten(1)


class Modes(nn.Module):
    """Computes something different in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.fc(x))
        return y if self.training else y.softmax(-1)


class Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(16, 2)
        self.features.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).relu().amax((2, 3)).repeat(1, 4))


class Functional(nn.Module):
    """Passes its parameters to functional convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(4, 1, 3, 3)), nn.Parameter(torch.rand(4))
        self.out = nn.Parameter(torch.rand(16, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight, self.bias, stride=2)
        return torch.matmul(F.gelu(x).reshape(x.shape[0], 16), self.out)


class BatchAware(nn.Module):
    """Compares each input with the others of its batch."""

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(0)
        return torch.cdist(centred, centred).sum(1, keepdim=True) / x.shape[0] + centred.std(dim=0)


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depth, self.point = nn.Conv2d(2, 2, 3, groups=2, padding="same"), nn.Conv2d(2, 5, 1)
        self.squeeze, self.excite = nn.Conv2d(5, 2, 1), nn.Conv2d(2, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.point(self.depth(x)))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        return (x * gate).mean(dim=(2, 3))


class Grouped(nn.Module):
    """Shuffles channels between groups."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = self.conv(x).size()
        x = self.conv(x).view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)
        first, second = x.chunk(2, dim=1)
        return torch.cat((first, F.relu(second)), dim=1).permute(0, 2, 3, 1).reshape(n, -1, 6).sum(1)


NETWORKS: dict[str, Case] = {
    "course": Case(Course, (1, 14, 14)),
    "residual": Case(Residual, (1, 8, 8)),
    "dense": Case(Dense, (1, 6, 6)),
    "siamese": Case(Siamese, (2, 8, 8)),
    "reshaping": Case(Reshaping, (2, 8, 8)),
    "tied": Case(Tied, (6,)),
    "scaled": Case(Scaled, (3, 4, 4)),
    "attention": Case(Attention, (5, 6)),
    "multihead": Case(Multihead, (5, 6)),
    "shape-aware": Case(ShapeAware, (1, 4, 4)),
    "in place": Case(InPlace, (5,)),
    "normed": Case(Normed, (1, 6, 6)),
    "up and down": Case(UpAndDown, (1, 7, 7)),
    "sequences": Case(Sequences, (3, 9)),
    "experts": Case(Experts, (5,)),
    "dropouts": Case(Dropouts, (1, 6, 6)),
    "modes": Case(Modes, (4,)),
    "frozen": Case(Frozen, (1, 6, 6)),
    "functional": Case(Functional, (1, 6, 6)),
    "batch-aware": Case(BatchAware, (4,)),
    "depthwise": Case(Depthwise, (2, 5, 5)),
    "grouped": Case(Grouped, (2, 5, 5)),
    "flatten and softmax": Case(lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 3), nn.Softmax(1)), (2, 4)),
    "padded": Case(lambda: nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(1, 2, 3), nn.PixelShuffle(1)), (1, 4, 4)),
    "resnet18": Case(lambda: torchvision.models.resnet18(num_classes=3), (3, 32, 32)),
    "mobilenet": Case(lambda: torchvision.models.mobilenet_v3_small(num_classes=3), (3, 32, 32)),
    "squeezenet": Case(lambda: torchvision.models.squeezenet1_1(num_classes=3, dropout=0.2), (3, 32, 32)),
    "shufflenet": Case(lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=3), (3, 64, 64)),
}
