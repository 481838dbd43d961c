"""A workaround for slow searches for GPUs."""

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
