"""Random augmentation of training images, resampled every epoch, for all rounds in one batch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, pi

import torch
from torch import Tensor
from torch.nn import functional as F

from pairs_lit.data.warps import enlarge_images
from pairs_lit.errors import PairsLitError
from pairs_lit.system.device_constants import DeviceConstants

_MAX_AMOUNTS = {"rotate": 180.0, "dilate": 1.0, "erode": 1.0}
_MAX_GRID = 64
_MAX_COPIED_NUMBERS = 2**25  # random numbers per copy to a GPU, 128 MiB; usually, one copy holds those of an epoch
_MAX_CHUNK_PIXELS = 2**20  # pixels of enlarged images per chunk: larger chunks miss the CPU caches and need much memory
_MAX_GPU_CHUNK_PIXELS = 2**26  # the same on a GPU, where only memory matters: 256 MiB


@dataclass(frozen=True)
class Augmentation:
    """Settings of the random augmentation of training images.

    Every image is changed differently in every epoch; the random numbers depend on the round's seed and the epoch.
    An image is enlarged to twice its size (average pooling would restore it exactly), changed at that size by bicubic
    interpolation with its edge pixels repeated outside, and average-pooled again. Each setting except ``elastic`` is
    a limit: the amount for an image is drawn uniformly from −limit … limit. A setting that is 0 or empty switches its
    change off. Lengths are in pixels of the image that the network sees.

    Args:
        shift: Largest shift along each axis, in pixels.
        rotate: Largest rotation, in degrees.
        shear: Largest shear, in pixels to the side for each pixel upwards.
        log_scale: Largest logarithm of the scale factor: 0.1 allows factors from 1/1.105 to 1.105.
        anisotropy: Largest logarithm of the factor by which an image becomes wider and flatter, or narrower and
            taller.
        elastic: Elastic deformations, as a mapping from G to a standard deviation in pixels: each point of a grid of
            G × G points over the image moves by a normal random amount, and the pixels between the points follow
            smoothly. ``{4: 0.4, 7: 0.2}`` adds two such deformations.
        dilate: Largest weight of the 3×3 maximum (at twice the size) in a weighted mean with the image, which makes
            strokes thicker. The weight is drawn uniformly from −erode … dilate.
        erode: Largest weight of the 3×3 minimum, which makes strokes thinner.
        originals: Warp the source's images at their original size, before they are pooled to ``data.image_size``.
            The original images hold more detail than those of the task, so every table then adds ``originals`` to
            the name of the source.

    Raises:
        PairsLitError: If a value is negative or too large, or if no change is switched on.
    """

    shift: float = 0.0
    rotate: float = 0.0
    shear: float = 0.0
    log_scale: float = 0.0
    anisotropy: float = 0.0
    elastic: Mapping[int, float] = field(default_factory=dict)
    dilate: float = 0.0
    erode: float = 0.0
    originals: bool = False

    def __post_init__(self) -> None:
        """Raise PairsLitError if an amount is out of range or nothing would change."""
        amounts = {name: getattr(self, name) for name in _AMOUNT_NAMES}
        amounts |= {f"elastic[{grid}]": amount for grid, amount in self.elastic.items()}
        for name, amount in amounts.items():
            limit = _MAX_AMOUNTS.get(name, float("inf"))
            if not (isfinite(amount) and 0 <= amount <= limit):
                allowed = "a finite number, 0 or more" if limit == float("inf") else f"from 0 to {limit:g}"
                raise PairsLitError(f"data.augment.{name} must be {allowed}, got {amount}.")
        for grid in self.elastic:
            if not 2 <= grid <= _MAX_GRID:
                raise PairsLitError(
                    f"data.augment.elastic must have grids of 2 to {_MAX_GRID} points per side, got {grid}."
                )
        if not any(amounts.values()):
            raise PairsLitError(
                "data.augment must change something, got no amount above 0. Set one, such as data.augment.rotate to 8, "
                "or set data.augment to null."
            )

    @property
    def has_warps(self) -> bool:
        """Whether any setting moves pixels; ``dilate`` and ``erode`` do not."""
        moving = (self.shift, self.rotate, self.shear, self.log_scale, self.anisotropy, *self.elastic.values())
        return any(moving)


_NUM_UNIFORM = (
    7  # uniform random numbers per image: thickness, shifts right and down, rotation, shear, size, anisotropy
)
_AMOUNT_NAMES = ("shift", "rotate", "shear", "log_scale", "anisotropy", "dilate", "erode")


class Augmenter:
    """Random augmentation of batches of images.

    Args:
        settings: The kinds and amounts of changes.
        size: H = W, the side of the images that the network sees.
        top: The largest grey value; the smallest is 0.
    """

    def __init__(self, settings: Augmentation, size: int, top: float) -> None:
        self.settings = settings
        self._size = size
        self._max_grey = top
        self._numbers_per_grid = [2 * grid**2 for grid in settings.elastic]
        self._bases: dict[tuple[int, torch.device], Tensor] = {}
        self._limits = DeviceConstants(self._compute_limits())

    def __call__(self, images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return randomly changed images of R rounds.

        Args:
            images: (R, M, S, S) float32. S equals H, or with ``originals`` is a multiple of H.
            generators: One random generator per round, seeded for the epoch.

        Returns:
            (R, M, H, W), between 0 and the largest grey value.
        """
        return self.change_images(images, self.draw_numbers(images.shape[1], generators))

    def change_images(self, images: Tensor, random_numbers: Tensor) -> Tensor:
        """Return the images of R rounds, changed by the numbers that :meth:`draw_numbers` returned for them."""
        rounds, count, *_ = images.shape
        side = images.shape[-1] * (1 if self.settings.originals else 2)
        max_pixels = _MAX_CHUNK_PIXELS if images.device.type == "cpu" else _MAX_GPU_CHUNK_PIXELS
        chunk_size = max(1, max_pixels // side**2)
        image_chunks = torch.split(images.flatten(0, 1), chunk_size)
        changed = []
        for chunk, numbers in zip(image_chunks, torch.split(random_numbers, chunk_size), strict=True):
            large = chunk if self.settings.originals else enlarge_images(chunk)
            large = self._warp(self._change_thickness(large, numbers[:, 0]), numbers)
            changed.append(F.avg_pool2d(large[:, None], large.shape[-1] // self._size).clamp(0, self._max_grey))
        return torch.cat(changed).view(rounds, count, self._size, self._size)

    def draw_numbers(self, count: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Return the random numbers for the next M images of each round, (R·M, 7 + n) on the CPU."""
        return torch.cat([self._draw_random_numbers(count, generator) for generator in generators])

    def draw_batches(
        self, counts: Iterable[int], generators: Sequence[torch.Generator], device: torch.device
    ) -> Iterator[Tensor]:
        """Yield the random numbers of each batch of an epoch, on a device.

        They are drawn on the CPU, so that they do not depend on the device. A GPU gets those of many batches at once.

        Args:
            counts: The number of images of a round in each batch.
            generators: One random generator per round.
            device: The device.
        """
        for block in self._iterate_blocks(counts, 1 if device.type == "cpu" else _MAX_COPIED_NUMBERS, len(generators)):
            parts = [self.draw_numbers(count, generators) for count in block]
            numbers = parts[0] if len(parts) == 1 else torch.cat(parts)
            yield from torch.split(numbers.to(device), [len(part) for part in parts])

    def _iterate_blocks(self, counts: Iterable[int], limit: int, rounds: int) -> Iterator[list[int]]:
        """Divide batches into blocks that end as soon as they have ``limit`` random numbers."""
        per_image = rounds * (_NUM_UNIFORM + sum(self._numbers_per_grid))
        block: list[int] = []
        for count in counts:
            block.append(count)
            if sum(block) * per_image >= limit:
                yield block
                block = []
        if block:
            yield block

    def _draw_random_numbers(self, count: int, generator: torch.Generator) -> Tensor:
        """Return (count, 7 + n) random numbers of a round's next images: 7 uniform in 0 … 1, then n normal ones."""
        uniform = torch.rand(count, _NUM_UNIFORM, generator=generator)
        normal = torch.randn(count, sum(self._numbers_per_grid), generator=generator)
        return torch.cat([uniform, normal], 1)

    def _change_thickness(self, images: Tensor, uniform: Tensor) -> Tensor:
        """Return the weighted means of images (N, S, S) and their 3×3 maximum (thicker) or minimum (thinner)."""
        thin, thick = self.settings.erode, self.settings.dilate
        if thin == thick == 0:
            return images
        share = ((thin + thick) * uniform - thin)[:, None, None]
        sign = torch.where(share < 0, -1.0, 1.0)
        signed = images * sign  # the minimum is the negative of the maximum of the negative image
        return sign * torch.lerp(signed, _compute_local_maximum(signed), share.abs())

    def _warp(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Return the images (N, S, S) after all changes that move pixels."""
        if not self.settings.has_warps:
            return images
        size, normal = images.shape[-1], numbers[:, _NUM_UNIFORM:]
        displacements = [values.view(len(images), 2, -1) for values in torch.split(normal, self._numbers_per_grid, 1)]
        coefficients = torch.cat([self._compute_affine_matrices(numbers[:, 1:_NUM_UNIFORM]), *displacements], 2)
        positions = coefficients.flatten(0, 1) @ self._get_basis(size, images.device)
        grid = positions.view(-1, 2, size, size).permute(0, 2, 3, 1)
        return F.grid_sample(images[:, None], grid, mode="bicubic", padding_mode="border", align_corners=False)[:, 0]

    def _compute_affine_matrices(self, uniform: Tensor) -> Tensor:
        """Return the matrices (N, 2, 3) that map positions in the new image, −1 … 1, to positions in the old one."""
        limits = self._limits.copy_to(uniform.device, uniform.dtype)
        right, down, angle, shear, log_scale, flatness = ((2 * uniform - 1) * limits).unbind(1)
        wide, high = (log_scale + flatness).exp(), (log_scale - flatness).exp()
        cos, sin = angle.cos(), angle.sin()
        x_row = torch.stack([cos * wide, (cos * shear - sin) * high, right], 1)
        y_row = torch.stack([sin * wide, (sin * shear + cos) * high, down], 1)
        return torch.stack([x_row, y_row], 1)

    def _compute_limits(self) -> list[float]:
        """Return the largest shift right and down, rotation, shear, logarithm of the scale and anisotropy."""
        settings = self.settings
        shift = settings.shift * 2 / self._size
        return [shift, shift, settings.rotate * pi / 180, settings.shear, settings.log_scale, settings.anisotropy]

    def _get_basis(self, size: int, device: torch.device) -> Tensor:
        """Return the matrix (3 + Σ G², S·S) that turns coefficients of a warp into positions of all pixels.

        The first three rows hold each pixel's x, its y and 1; they belong to the affine part of the warp. Each further
        row holds how far one point of an elastic grid moves each pixel when its random number is 1.
        """
        if (size, device) not in self._bases:
            line = (2 * torch.arange(size) + 1) / size - 1  # centres of pixels; the image spans −1 … 1
            down, across = torch.meshgrid(line, line, indexing="ij")
            parts = [torch.stack([across.flatten(), down.flatten(), torch.ones(size**2)])]
            for grid, amount in self.settings.elastic.items():  # interpolate each grid point's weight to all pixels
                points = torch.eye(grid**2).view(grid**2, 1, grid, grid)
                weights = F.interpolate(points, size=(size, size), mode="bicubic", align_corners=True)
                parts.append(weights.view(grid**2, size**2) * (amount * 2 / self._size))
            self._bases[size, device] = torch.cat(parts).to(device)
        return self._bases[size, device]


def _compute_local_maximum(images: Tensor) -> Tensor:
    """Return the 3×3 maximum around each pixel of (N, S, S)."""
    for axis in (1, 2):
        padded = F.pad(images, (1, 1) if axis == 2 else (0, 0, 1, 1), value=-float("inf"))
        before, here, after = (padded.narrow(axis, start, images.shape[axis]) for start in range(3))
        images = torch.maximum(torch.maximum(before, here), after)
    return images
