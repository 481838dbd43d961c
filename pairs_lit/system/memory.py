"""The C library's memory allocator."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's names for them, from glibc's malloc.h


_LARGEST_BLOCK, _KEPT = 2**30, 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library to reuse freed blocks of up to 1 GiB, and to keep up to 2 GiB of them, in the whole process.

    Steps allocate and free the same tens of megabytes; the kernel maps and zeroes them more slowly than we compute.

    Returns:
        Whether the C library accepted it; without Linux and glibc, nothing is done.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK) and mallopt(_TRIM_THRESHOLD, _KEPT))
