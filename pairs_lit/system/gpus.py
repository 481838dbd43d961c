"""Searches for GPUs, and their free memory."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_NVML_CHECK_VARIABLE = "PYTORCH_NVML_BASED_CUDA_CHECK"


@contextmanager
def skip_gpu_searches() -> Iterator[None]:
    """Without a GPU, stop torch's optimizers from searching for one in every step.

    Lightning makes torch query NVIDIA's management library. Without a GPU this query is repeated at every search,
    because it fails.
    """
    before = os.environ.get(_NVML_CHECK_VARIABLE)
    if before != "1" or torch.cuda.is_available():
        yield
        return
    os.environ[_NVML_CHECK_VARIABLE] = "0"
    try:
        yield
    finally:
        os.environ[_NVML_CHECK_VARIABLE] = before


def measure_free_memory(device: torch.device) -> float:
    """Return the number of free bytes in a GPU's memory, or infinity for a device whose memory cannot be queried."""
    if device.type == "cuda" and (device.index or 0) < torch.cuda.device_count():
        free, _ = torch.cuda.mem_get_info(device)
        return free
    if device.type == "mps" and torch.backends.mps.is_available():
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return math.inf


def find_device_type(accelerator: object) -> str:
    """Return the type of the devices that Lightning chooses for ``trainer.accelerator``: cpu, cuda, mps or another."""
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if accelerator == "auto":
        return "mps" if has_mps else "cuda" if has_cuda else "cpu"
    if accelerator == "gpu":
        return "mps" if has_mps and not has_cuda else "cuda"
    return str(accelerator)


def list_gpus(device_type: str, devices: object) -> list[torch.device]:
    """Return the GPUs that ``trainer.devices`` stands for, at least one.

    Args:
        device_type: cuda or mps.
        devices: A number of GPUs, a list of their numbers, or ``auto`` or -1 for all.
    """
    count = torch.cuda.device_count() if device_type == "cuda" else 1
    if isinstance(devices, list):
        return [torch.device(device_type, number) for number in devices]
    requested = int(str(devices)) if str(devices).isdigit() else count
    return [torch.device(device_type, number) for number in range(max(1, min(requested, count)))]
