"""Images and pairs in a GPU's memory, so that batches are not copied there one by one."""

import torch

from pairs_lit.data.pair_store import PairStore
from pairs_lit.system.gpus import measure_free_memory

DATA_SHARE = 0.25
"""The largest share of a GPU's free memory for images and pairs; the networks need the rest."""


def move_to_gpu(store: PairStore, device: torch.device, *, augments: bool) -> PairStore:
    """Return the store on a GPU, or unchanged if each batch must be copied to the GPU by itself.

    Args:
        store: The store, on the CPU.
        device: The GPU.
        augments: Whether training images are warped at random.
    """
    lacks_bicubic_warps = augments and device.type == "mps"  # several torch releases have none there
    if lacks_bicubic_warps or not fits_gpu(store.tensor_bytes, measure_free_memory(device)):
        return store
    return store.to(device)


def fits_gpu(data_bytes: int, free_bytes: float) -> bool:
    """Return whether data of this size may be kept in a GPU's memory."""
    return data_bytes <= DATA_SHARE * free_bytes
