"""Number of cores that this process may use."""

import math
import os
import sys
from contextlib import suppress
from pathlib import Path


def count_cores() -> int:
    """Return the number of cores that this process may run on or, outside Linux, the number of cores of the machine.

    On Windows it is at most 60, because a process can wait for about that many others.
    """
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    else:  # noqa: RET505 - mypy skips a branch of another platform, but not the code after it
        return min(os.cpu_count() or 1, 60 if sys.platform == "win32" else 2**16)


def count_usable_cores() -> int:
    """Return the number of cores that CPU affinity and the quota of the container allow this process to use."""
    return max(1, int(min(count_cores(), read_core_limit(_CGROUP_MEMBERSHIP_FILE, _CGROUP_ROOT))))


_CGROUP_MEMBERSHIP_FILE, _CGROUP_ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def read_core_limit(membership: Path, root: Path) -> float:
    """Return the number of cores that its control groups allow a process to use, or infinity without a limit.

    Args:
        membership: The file that lists the groups of the process, in Linux's format.
        root: The folder that contains the groups.
    """
    limits = [math.inf]
    with suppress(FileNotFoundError):  # a system without control groups
        for line in membership.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                group = root / controllers / path.lstrip("/")
                outer_groups = [folder for folder in group.parents if folder.is_relative_to(root)]
                limits += [_read_quota(folder) for folder in (group, *outer_groups)]
    return min(limits)


def _read_quota(folder: Path) -> float:
    """Return the number of cores that a control group may use, or infinity if it has no quota."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text("ascii") for name in ("quota", "period"))
        return float(quota) / float(period) if float(quota) > 0 else math.inf
    except (OSError, ValueError):  # the files do not exist, or contain "max"
        return math.inf
