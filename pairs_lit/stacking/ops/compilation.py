"""Compilation of kernels by Numba, and the conditions under which compiled kernels are used."""

import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])

KERNELS_VARIABLE = "PAIRS_LIT_KERNELS"
"""The environment variable that, set to 0, makes torch compute everything, without compiled kernels."""

_FASTMATH_FLAGS = {
    "reassoc",
    "contract",
    "nsz",
    "arcp",
}  # without nnan and ninf, since NaN and infinity must be passed on


def can_use_kernels(*tensors: Tensor) -> bool:
    """Return whether compiled kernels may be used, and support these tensors: on the CPU, all float32 or float64."""
    dtype = tensors[0].dtype
    is_supported = dtype in (torch.float32, torch.float64) and all(
        tensor.dtype == dtype and tensor.device.type == "cpu" for tensor in tensors
    )
    return is_supported and os.environ.get(KERNELS_VARIABLE) != "0"


def run_kernel(kernel: Callable[..., None], *tensors: Tensor) -> None:
    """Run a kernel on one thread; further cores are used by further workers, each of which trains whole stacks."""
    kernel(*[tensor.detach().numpy() for tensor in tensors])


def compile_kernel(function: Function, *, keep: bool = True) -> Function:
    """Compile a function at its first call and, if possible, cache it on disk for other processes."""
    import numba  # here, since networks without kernels should not wait for it

    options: dict[str, Any] = {"nogil": True, "fastmath": _FASTMATH_FLAGS, "error_model": "numpy"}
    try:
        return cast(Function, numba.njit(function, cache=keep, **options))
    except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
        if not keep:
            raise
        return compile_kernel(function, keep=False)


def compile_inline(function: Function) -> Function:
    """Compile a function inline, as part of each of its callers.

    A function compiled on its own would have different machine code in the process that compiles it and in processes
    that load it from disk, where it has been optimised within its caller. The results of the first fit after an
    installation would then differ in their last bits from those of later fits.
    """
    import numba

    options: dict[str, Any] = {"nogil": True, "fastmath": _FASTMATH_FLAGS, "error_model": "numpy"}
    return cast(Function, numba.njit(function, inline="always", **options))
