"""Constants as tensors that are copied only once to a device."""

from collections.abc import Sequence

import torch
from torch import Tensor


class DeviceConstants:
    """A few numbers, for use with tensors of any device and type.

    A tensor made from numbers in each step would be copied to the GPU in each step.

    Args:
        values: The n numbers.
    """

    def __init__(self, values: Sequence[float]) -> None:
        self._values = torch.tensor(values, dtype=torch.float64)
        self._copies: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def shape_like(self, x: Tensor) -> Tensor:
        """Return the numbers with the type and device of ``x`` (n, ...), in the shape (n, 1, ..., 1)."""
        return self.copy_to(x.device, x.dtype).view(-1, *[1] * (x.dim() - 1))

    def copy_to(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the numbers as a tensor (n,) on a device; the tensor is cached and must not be changed."""
        if (device, dtype) not in self._copies:
            with torch.inference_mode(False):  # an evaluation may need it first, and training must be able to save it
                self._copies[device, dtype] = self._values.to(dtype).to(device)
        return self._copies[device, dtype]
