"""Views: the warps of an image that a trained network is shown, and over whose answers it takes the mean."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from pairs_lit.data.warps import Warp, enlarged, enlarging, standard_warps, warped
from pairs_lit.errors import PairsLitError

MOST_VIEWS = 1000

_MOST_NUMBERS = 2**24
"""The most numbers in the tables of all views (13 of 33×33); with larger ones each image is warped by itself."""

_AT_A_TIME = 256


def warps_of(views: object) -> tuple[Warp, ...]:
    """Return the warps that ``model.views`` asks for; none: images are shown as they are.

    Args:
        views: ``standard``, a list of warps, or None.

    Raises:
        PairsLitError: It is something else, an empty list, one of more than :data:`MOST_VIEWS`, or a warp is far off.
    """
    if views is None:
        return ()
    if views == "standard":
        return tuple(standard_warps())
    if not isinstance(views, list | tuple) or not all(isinstance(each, Warp) for each in views):
        raise PairsLitError(
            f"model.views is {views!r:.100}: it must be standard, null, or a list of warps such as [{{}}, "
            "{rotation: 6}]."
        )
    if not 1 <= len(views) <= MOST_VIEWS:
        raise PairsLitError(f"model.views has {len(views)} warps: name 1 to {MOST_VIEWS}, or null for no views.")
    for warp in views:
        warp.check()
    return tuple(views)


class Views(nn.Module):
    """V views of images, by bicubic warps at twice their size; the same linear map for every image.

    Args:
        warps: One for each view; one that does nothing leaves images exactly as they are.
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
        self._has_tables = len(warps) * size**4 <= _MOST_NUMBERS
        tables = torch.zeros(0)
        if self._has_tables:  # what each pixel gives to each, (V, H·W, H·W): the views of the images of one pixel
            pixels = torch.eye(size**2, dtype=torch.float64)
            large = enlarged(pixels.view(-1, size, size))
            tables = torch.stack([pixels if warp == Warp() else warped(large, warp.theta).flatten(1) for warp in warps])
        # not persistent: they follow from the configuration
        self.register_buffer("_thetas", torch.stack([warp.theta for warp in warps]).float(), persistent=False)
        self.register_buffer("_tables", tables.float(), persistent=False)
        self.register_buffer("_enlarging", enlarging(size).float(), persistent=False)

    def extra_repr(self) -> str:
        """Show how many."""
        return f"count={self.count}"

    def forward(self, images: Tensor) -> Tensor:
        """Return all views: (..., H, W) → (V, ..., H, W)."""
        return torch.stack(list(self.each(images)))

    def each(self, images: Tensor) -> Iterator[Tensor]:
        """Yield one view after the other, (..., H, W) each, computed in float32 or float64 whatever the images are."""
        exact = images if images.dtype == torch.float64 else images.float()
        for view, warp in enumerate(self._warps):
            yield images if warp == Warp() else self._warped(exact, view).to(images.dtype)

    def _warped(self, images: Tensor, view: int) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            if self._has_tables:
                return (images.flatten(-2) @ self._tables[view].to(images.dtype)).view(images.shape)
            theta, larger = self._thetas[view].to(images.dtype), self._enlarging.to(images.dtype)
            flat = images.reshape(-1, self._size, self._size)
            # a network that is exported is recorded for any number of images, which cannot be cut into parts
            parts = [flat] if torch.compiler.is_exporting() else torch.split(flat, _AT_A_TIME)
            return torch.cat([warped(larger @ part @ larger.T, theta) for part in parts]).view(images.shape)
