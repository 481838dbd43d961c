"""A workaround for slow searches for GPUs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_ASK_LIBRARY = "PYTORCH_NVML_BASED_CUDA_CHECK"


@contextmanager
def no_search_for_gpus() -> Iterator[None]:
    """Without a GPU, stop torch's optimizers from searching for one in every step.

    Lightning makes torch query NVIDIA's management library. Without a GPU this query is repeated at every search,
    because it fails.
    """
    before = os.environ.get(_ASK_LIBRARY)
    if before != "1" or torch.cuda.is_available():
        yield
        return
    os.environ[_ASK_LIBRARY] = "0"
    try:
        yield
    finally:
        os.environ[_ASK_LIBRARY] = before
