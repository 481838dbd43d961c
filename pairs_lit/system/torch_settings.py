"""Settings of torch that a script may have changed, and that a worker in a new process must have, too."""

from dataclasses import dataclass
from typing import Self

import torch


@dataclass(frozen=True)
class TorchSettings:
    """Settings of a process that affect its numbers.

    Attributes:
        threads: The number of threads.
        dtype: The type of new floating-point tensors.
        matmul_precision: The precision of float32 products: ``highest``, ``high`` or ``medium``.
        is_deterministic: Whether only deterministic algorithms are allowed.
    """

    threads: int
    dtype: torch.dtype
    matmul_precision: str
    is_deterministic: bool

    @classmethod
    def capture(cls) -> Self:
        """Return the settings of this process."""
        return cls(
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.are_deterministic_algorithms_enabled(),
        )

    def apply(self) -> None:
        """Give this process the settings, except the number of threads, which a context restores."""
        torch.set_default_dtype(self.dtype)
        torch.set_float32_matmul_precision(self.matmul_precision)
        torch.use_deterministic_algorithms(self.is_deterministic)
