"""Default number of rounds per stack on GPUs: as many as their memory can hold."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor, nn

from pairs_lit.nn.architecture import Architecture
from pairs_lit.nn.pair_stack import PairStack, compute_default_stack_size

MEMORY_SHARE = 0.5
"""The largest share of a GPU's free memory that one step of a stack may take, according to the estimate."""

_TENSORS_PER_WEIGHT = 4  # weight, gradient and the two means of Adam
_BYTES_PER_SAVED_BYTE = 2  # gradients of activations and intermediate results take as much again, at most


@dataclass(frozen=True)
class GpuResources:
    """What the default stack size on GPUs depends on, besides the network and the number of rounds.

    Attributes:
        free_bytes: The free memory of the GPU that has least; may be infinite.
        workers: The number of workers, one per GPU.
        pairs: The number of pairs in the largest batch.
    """

    free_bytes: float
    workers: int
    pairs: int


_RESOURCES: ContextVar[GpuResources | None] = ContextVar("gpu_resources", default=None)


@contextmanager
def use_gpu_resources(resources: GpuResources | None) -> Iterator[None]:
    """Choose default stack sizes for these GPUs within the context, or for the CPU if there are none."""
    token = _RESOURCES.set(resources)
    try:
        yield
    finally:
        _RESOURCES.reset(token)


def choose_stack_size(architecture: Architecture, seeds: Sequence[int]) -> int:
    """Return the default number of rounds per stack, on the CPU or within :func:`use_gpu_resources`."""
    resources = _RESOURCES.get()
    round_bytes = None if resources is None else estimate_round_bytes(architecture, seeds[0], resources.pairs)
    if resources is None or round_bytes is None:
        return compute_default_stack_size(architecture, seeds)
    return compute_gpu_stack_size(round_bytes, len(seeds), resources.free_bytes, resources.workers)


def compute_gpu_stack_size(round_bytes: int, rounds: int, free_bytes: float, workers: int = 1) -> int:
    """Return the largest number of rounds per stack that fits and leaves no worker without a stack.

    Args:
        round_bytes: The memory that one round takes.
        rounds: The number of rounds.
        free_bytes: The free memory of a GPU, of which a step may take :data:`MEMORY_SHARE`.
        workers: The number of workers. If there are fewer rounds, each round is a stack.
    """
    fitting = max(1, int(min(rounds, MEMORY_SHARE * free_bytes / max(1, round_bytes))))
    per_worker = ceil(rounds / workers)
    if ceil(rounds / per_worker) < min(workers, rounds):  # 9 rounds for 4 workers: stacks of 3 would be 3 stacks
        per_worker = max(1, rounds // workers)
    stacks = ceil(rounds / min(fitting, per_worker))
    return ceil(rounds / stacks)


def estimate_round_bytes(architecture: Architecture, seed: int, pairs: int) -> int | None:
    """Estimate the memory that a training step takes for one round, or return None if that is not possible.

    The step runs on torch's meta device, which computes shapes but no values. Counted are the tensors that autograd
    saves, twice, and the parameters, four times.

    Args:
        architecture: The network.
        seed: The seed of the round.
        pairs: The number of pairs in a batch.
    """
    stack = PairStack.build(architecture, [seed])
    network = stack.network.to("meta")
    images = torch.zeros(1, pairs, *architecture.pair_shape, device="meta")
    try:
        saved_bytes = _measure_saved_bytes(stack, images)
    except Exception:  # a user's network may need values, or hold tensors that do not move to another device
        return None
    return _TENSORS_PER_WEIGHT * _count_bytes(network) + _BYTES_PER_SAVED_BYTE * saved_bytes


def _measure_saved_bytes(stack: PairStack, images: Tensor) -> int:
    """Return the size of the tensors that autograd saves in a training step, without parameters."""
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = stack(images)
    del output
    weights = {parameter.untyped_storage()._cdata for parameter in stack.network.parameters()}
    return sum(tensor.untyped_storage().nbytes() for key, tensor in saved.items() if key not in weights)


def _count_bytes(network: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in network.parameters())
