"""Settings of the C library's memory allocator."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in glibc's malloc.h


_MAX_REUSED_BLOCK_BYTES, _MAX_KEPT_BYTES = 2**30, 2**31 - 1


def tune_malloc() -> bool:
    """Make the C library reuse freed blocks of up to 1 GiB and keep up to 2 GiB of free memory in this process.

    Each training step allocates and frees the same tens of megabytes. If they were returned to the operating system,
    mapping and zeroing them again would take longer than the computation.

    Returns:
        Whether the C library accepted the settings. Except on Linux with glibc, nothing is changed.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _MAX_REUSED_BLOCK_BYTES) and mallopt(_TRIM_THRESHOLD, _MAX_KEPT_BYTES))
