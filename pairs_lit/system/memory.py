"""Memory: settings of the C library's allocator, and the peak use of a process."""

import ctypes
import math
import sys
from contextlib import suppress

if sys.platform != "win32":
    import resource

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in glibc's malloc.h


_MAX_REUSED_BLOCK_BYTES, _MAX_KEPT_BYTES = 2**30, 2**31 - 1


def tune_malloc() -> bool:
    """Make the C library reuse freed blocks of up to 1 GiB and keep up to 2 GiB of free memory in this process.

    Each training step allocates and frees the same tens of megabytes. If they were returned to the operating system,
    mapping and zeroing them again would take longer than the computation.

    Returns:
        Whether the C library accepted the settings. Except on Linux with glibc, nothing is changed.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            return bool(mallopt(_MMAP_THRESHOLD, _MAX_REUSED_BLOCK_BYTES) and mallopt(_TRIM_THRESHOLD, _MAX_KEPT_BYTES))
    return False


def get_peak_memory(*, of_children: bool = False) -> float:
    """Return the peak memory in MiB of this process, or of the largest child that has ended; NaN on Windows."""
    if sys.platform == "win32":
        return math.nan
    else:  # noqa: RET505 - mypy skips a branch of another platform, but not the code after it
        peak = resource.getrusage(resource.RUSAGE_CHILDREN if of_children else resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes on macOS, KiB elsewhere
