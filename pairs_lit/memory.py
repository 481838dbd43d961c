"""Memory: freed blocks are kept for the next step instead of being given back to the system."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's names for them, from glibc's malloc.h
_LARGEST_BLOCK = 2**30
_KEPT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library to reuse freed blocks of up to 1 GiB, and to keep up to 2 GiB of them.

    A step of a stack allocates and frees the same tens of megabytes again and again. By default each is mapped and
    zeroed anew by the kernel, which takes longer than the arithmetic on it. This concerns the whole process.

    Returns:
        Whether the C library accepted it; elsewhere than on Linux with glibc nothing is done.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK) and mallopt(_TRIM_THRESHOLD, _KEPT))
