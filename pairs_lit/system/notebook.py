"""Detection of Jupyter notebooks."""

import sys


def is_in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, local or hosted."""
    kernel_shells = sys.modules.get("ipykernel.zmqshell")  # every kernel imports it before any code of the user
    return kernel_shells is not None and bool(kernel_shells.ZMQInteractiveShell.initialized())
