"""Test-time augmentation: a trained network averages its predictions over several warped views of an image."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from pairs_lit.data.warps import Warp, build_standard_warps, compute_enlarging_matrix, enlarge_images, warp_images
from pairs_lit.errors import PairsLitError

MAX_VIEWS = 1000
"""Maximum number of views."""

_MAX_TABLE_NUMBERS = 2**24
"""Maximum number of entries in the tables of all views, such as 13 views of 33×33; beyond it, images are warped."""

_IMAGES_PER_CHUNK = 256
"""Number of images warped at once without tables, to limit memory."""


def parse_views(views: object) -> tuple[Warp, ...]:
    """Return the warps of ``model.views``, or an empty tuple without test-time augmentation.

    Args:
        views: ``standard``, a list of warps, or None.

    Raises:
        PairsLitError: The value has another type, the list is empty or has more than :data:`MAX_VIEWS` entries, or a
            number of a warp is out of range.
    """
    if views is None:
        return ()
    if views == "standard":
        return tuple(build_standard_warps())
    if not isinstance(views, list | tuple) or not all(isinstance(warp, Warp) for warp in views):
        raise PairsLitError(
            "model.views must be standard, null, or a list of warps such as [{}, {rotation: 6}], "
            f"got {views!r:.100}."
        )
    if not 1 <= len(views) <= MAX_VIEWS:
        raise PairsLitError(
            f"model.views must contain 1 to {MAX_VIEWS} warps, got {len(views)}. Use null for no test-time "
            "augmentation."
        )
    for warp in views:
        warp.check()
    return tuple(views)


class Views(nn.Module):
    """V views of each image, made by bicubic warps at twice its size; each view is a linear map of the image.

    Args:
        warps: One warp for each view. The identity leaves images bit-identical.
        size: H = W.

    Attributes:
        count: V.
    """

    _thetas: Tensor
    _tables: Tensor
    _enlarging: Tensor

    def __init__(self, warps: Sequence[Warp], size: int) -> None:
        super().__init__()
        self.count, self._warps, self._size = len(warps), tuple(warps), size
        self._has_tables = len(warps) * size**4 <= _MAX_TABLE_NUMBERS
        tables = torch.zeros(0)
        if self._has_tables:
            # the maps as matrices (V, H·W, H·W): their rows are the views of images with one white pixel
            pixels = torch.eye(size**2, dtype=torch.float64)
            large = enlarge_images(pixels.view(-1, size, size))
            tables = torch.stack(
                [pixels if warp == Warp() else warp_images(large, warp.theta).flatten(1) for warp in warps]
            )
        # not persistent, because they follow from the configuration
        self.register_buffer("_thetas", torch.stack([warp.theta for warp in warps]).float(), persistent=False)
        self.register_buffer("_tables", tables.float(), persistent=False)
        self.register_buffer("_enlarging", compute_enlarging_matrix(size).float(), persistent=False)

    def extra_repr(self) -> str:
        """Return the number of views, for ``repr``."""
        return f"count={self.count}"

    def forward(self, images: Tensor) -> Tensor:
        """Return all views: (..., H, W) → (V, ..., H, W)."""
        return torch.stack(list(self.iterate_views(images)))

    def iterate_views(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the views one by one, (..., H, W) each; they are computed in at least float32."""
        precise = images if images.dtype == torch.float64 else images.float()
        for view, warp in enumerate(self._warps):
            yield images if warp == Warp() else self._warp(precise, view).to(images.dtype)

    def _warp(self, images: Tensor, view: int) -> Tensor:
        """Return one view, by the table if there is one, or else by warping the images in parts."""
        with _disable_autocast(images.device.type):
            if self._has_tables:
                return (images.flatten(-2) @ self._tables[view].to(images.dtype)).view(images.shape)
            theta, larger = self._thetas[view].to(images.dtype), self._enlarging.to(images.dtype)
            flat = images.reshape(-1, self._size, self._size)
            # torch.export traces the network for any number of images, which it cannot split into parts
            parts = [flat] if torch.compiler.is_exporting() else torch.split(flat, _IMAGES_PER_CHUNK)
            return torch.cat([warp_images(larger @ part @ larger.T, theta) for part in parts]).view(images.shape)


def _disable_autocast(device: str) -> AbstractContextManager[object]:
    """Return a context in which nothing is computed in a lower precision; some devices have no such mode."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
