"""Warps: images shifted, turned, sheared and scaled a little, as if they had been drawn that way."""

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
    """How an image is warped about its middle: scaled, then sheared, then turned, then shifted.

    Args:
        shift_x: To the right, as a share of the width: 0.025 is 0.7 pixels of 28.
        shift_y: Down, as a share of the height.
        rotation: Counter-clockwise, in degrees.
        shear: How far a row moves to the right, as a share of its height above the middle: above 0, strokes lean to
            the right.
        scale_x: By how much it gets wider; 1: as it is.
        scale_y: By how much it gets higher.
    """

    shift_x: float = 0.0
    shift_y: float = 0.0
    rotation: float = 0.0
    shear: float = 0.0
    scale_x: float = 1.0
    scale_y: float = 1.0

    def check(self) -> None:
        """Check that the numbers leave an image.

        Raises:
            PairsLitError: A shift lies outside -1 … 1, a scale outside 0.1 … 10, or another number is far off.
        """
        for name, value in asdict(self).items():
            least, most = _LIMITS[name]
            if not least <= value <= most:
                raise PairsLitError(f"model.views: {name} is {value}: it must lie in {least} … {most}.")

    @property
    def theta(self) -> Tensor:
        """Where each pixel comes from, (2, 3) float64, as ``torch.nn.functional.affine_grid`` takes it."""
        angle = math.radians(self.rotation)
        turn = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]  # y points down
        lean = [[1.0, -self.shear], [0.0, 1.0]]
        both = torch.tensor(turn, dtype=torch.float64) @ torch.tensor(lean, dtype=torch.float64)
        back = torch.linalg.inv(both @ torch.diag(torch.tensor([self.scale_x, self.scale_y], dtype=torch.float64)))
        shift = torch.tensor([2 * self.shift_x, 2 * self.shift_y], dtype=torch.float64)  # of a width from -1 to 1
        return torch.cat([back, -(back @ shift)[:, None]], 1)


def standard_warps() -> list[Warp]:
    """Return the 13 warps of ``standard``: the identity, and both ways: shifts, turns, shears, and scales."""
    found = [Warp()]
    for way in (1, -1):
        found += [
            Warp(shift_x=way * 0.025),
            Warp(shift_y=way * 0.025),
            Warp(rotation=way * 6.0),
            Warp(shear=way * 0.12),
            Warp(scale_x=1 + way * 0.08),
            Warp(scale_y=1 + way * 0.08),
        ]
    return found


@lru_cache(maxsize=8)
def enlarging(size: int) -> Tensor:
    """Return the matrix U, (2S, S) float64, that enlarges a row of pixels so that the means of every two give it back.

    It is what iterated back-projection (Irani and Peleg 1991) leads to: B(PB)⁻¹, where B interpolates bicubically and P
    takes the means of every two. Each of its rows sums to 1, so a constant stays what it is.
    """
    with torch.inference_mode(False):  # it is kept, also for what gradients are taken of
        pixels = torch.eye(size, dtype=torch.float64)
        bicubic = F.interpolate(pixels[None, None], size=(2 * size, size), mode="bicubic", align_corners=False)[0, 0]
        back: Tensor = torch.linalg.inv(bicubic.view(size, 2, size).mean(1))
        return bicubic @ back


def enlarged(images: Tensor) -> Tensor:
    """Return images twice as high and wide, of which average pooling gives the images back; see :func:`enlarging`.

    Linear in the images.

    Args:
        images: (..., H, W), floats.

    Returns:
        (..., 2H, 2W).
    """
    down, across = (enlarging(size).to(images) for size in images.shape[-2:])
    wide = images @ across.T
    return torch.einsum("...hw,gh->...gw", wide, down)  # one product for all images


def warped(images: Tensor, theta: Tensor) -> Tensor:
    """Warp images at twice their size, by bicubic interpolation, and average-pool them back.

    Linear in the images. Outside is what is at the edge, so a constant stays what it is: with images prepared by
    subtracting a mean and dividing by a std, warping before is warping afterwards.

    Args:
        images: Enlarged ones, (N, 2H, 2W), floats.
        theta: (2, 3): where each pixel comes from, see :attr:`Warp.theta`.

    Returns:
        (N, H, W).
    """
    large = images.unsqueeze(0)  # as the channels of one image: what they share is computed once
    grid = F.affine_grid(theta.to(images)[None], [1, 1, *large.shape[-2:]], align_corners=False)
    moved = F.grid_sample(large, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return F.avg_pool2d(moved, 2).squeeze(0)
