"""Affine warps of images: shift, rotation, shear and scale, with bicubic interpolation at twice the size."""

import math
from dataclasses import asdict, dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from pairs_lit.errors import PairsLitError

_LIMITS: dict[str, tuple[float, float]] = {
    "shift_x": (-1, 1),
    "shift_y": (-1, 1),
    "rotation": (-360, 360),
    "shear": (-10, 10),
    "scale_x": (0.1, 10),
    "scale_y": (0.1, 10),
}


@dataclass(frozen=True)
class Warp:
    """Affine warp of an image about its centre: scale, then shear, then rotate, then shift.

    Args:
        shift_x: Shift to the right, as a fraction of the width: 0.025 is 0.7 of 28 pixels.
        shift_y: Downward shift, as a fraction of the height.
        rotation: Rotation counter-clockwise, in degrees.
        shear: Shift of each row to the right, as a fraction of its height above the centre: a positive shear makes
            strokes lean to the right.
        scale_x: Factor of the width; 1 keeps the width.
        scale_y: Factor of the height; 1 keeps the height.
    """

    shift_x: float = 0.0
    shift_y: float = 0.0
    rotation: float = 0.0
    shear: float = 0.0
    scale_x: float = 1.0
    scale_y: float = 1.0

    def check(self) -> None:
        """Raise PairsLitError if a value is outside its limits, so that too little of the image would remain."""
        for name, value in asdict(self).items():
            lowest, highest = _LIMITS[name]
            if not lowest <= value <= highest:
                raise PairsLitError(f"model.views: {name} must be from {lowest} to {highest}, got {value}.")

    @property
    def theta(self) -> Tensor:
        """The matrix (2, 3) float64 from output to input positions, as ``torch.nn.functional.affine_grid`` takes it."""
        angle = math.radians(self.rotation)
        rotate = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]  # y points down
        shear = [[1.0, -self.shear], [0.0, 1.0]]
        sheared_rotation = torch.tensor(rotate, dtype=torch.float64) @ torch.tensor(shear, dtype=torch.float64)
        inverse = torch.linalg.inv(
            sheared_rotation @ torch.diag(torch.tensor([self.scale_x, self.scale_y], dtype=torch.float64))
        )
        shift = torch.tensor([2 * self.shift_x, 2 * self.shift_y], dtype=torch.float64)  # positions run from -1 to 1
        return torch.cat([inverse, -(inverse @ shift)[:, None]], 1)


def build_standard_warps() -> list[Warp]:
    """Return the 13 warps of ``standard``: the identity, and each of six small changes in both directions."""
    warps = [Warp()]
    for sign in (1, -1):
        warps += [
            Warp(shift_x=sign * 0.025),
            Warp(shift_y=sign * 0.025),
            Warp(rotation=sign * 6.0),
            Warp(shear=sign * 0.12),
            Warp(scale_x=1 + sign * 0.08),
            Warp(scale_y=1 + sign * 0.08),
        ]
    return warps


@lru_cache(maxsize=8)
def compute_enlarging_matrix(size: int) -> Tensor:
    """Return the matrix U, (2S, S) float64, that doubles a row of pixels such that average pooling restores it.

    U is the limit of iterated back-projection (Irani and Peleg 1991): B(PB)⁻¹, where B interpolates bicubically and P
    averages neighbouring pairs of pixels. Each row of U sums to 1, so a constant image stays constant.
    """
    with torch.inference_mode(False):  # the cached matrix may later be used where gradients are needed
        pixels = torch.eye(size, dtype=torch.float64)
        bicubic = F.interpolate(pixels[None, None], size=(2 * size, size), mode="bicubic", align_corners=False)[0, 0]
        inverse: Tensor = torch.linalg.inv(bicubic.view(size, 2, size).mean(1))
        return bicubic @ inverse


@lru_cache(maxsize=8)
def _convert_enlarging_matrix(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the enlarging matrix in another type, which not every device could convert, and on a device."""
    with torch.inference_mode(False):
        return compute_enlarging_matrix(size).to(dtype).to(device)


def enlarge_images(images: Tensor) -> Tensor:
    """Return images at twice their height and width such that average pooling restores them.

    The result is linear in the images; see :func:`compute_enlarging_matrix`.

    Args:
        images: (..., H, W), floats.

    Returns:
        (..., 2H, 2W).
    """
    down, across = (_convert_enlarging_matrix(size, images.dtype, images.device) for size in images.shape[-2:])
    wide = images @ across.T
    return torch.einsum("...hw,gh->...gw", wide, down)  # a single product for all images


def warp_images(images: Tensor, theta: Tensor) -> Tensor:
    """Return enlarged images warped by bicubic interpolation and average-pooled to half their size.

    The result is linear in the images, and a constant image stays constant because edge pixels are repeated outside.
    So warping commutes with subtracting a mean and dividing by a standard deviation.

    Args:
        images: Images from :func:`enlarged`, (N, 2H, 2W), floats.
        theta: (2, 3), the matrix of :attr:`Warp.theta`.

    Returns:
        (N, H, W).
    """
    large = images.unsqueeze(0)  # as channels of one image, which share the interpolation weights
    grid = F.affine_grid(theta.to(images)[None], [1, 1, *large.shape[-2:]], align_corners=False)
    moved = F.grid_sample(large, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return F.avg_pool2d(moved, 2).squeeze(0)
