"""GPUs: whether there are any."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_ASK_LIBRARY = "PYTORCH_NVML_BASED_CUDA_CHECK"


@contextmanager
def no_search_for_gpus() -> Iterator[None]:
    """Where there is no GPU, keep torch's optimizers from looking for one in every step.

    Lightning has torch ask NVIDIA's management library, which fails anew each time.
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
