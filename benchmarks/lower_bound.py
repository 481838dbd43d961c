"""Lower bound of the training time: what arithmetic or memory traffic alone would take on this machine."""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from baselines import get_batch_size, load_splits
from networks import NETWORKS

_MATRIX_SIZE = 2048
_COPY_SIZE = 16_000_000


def measure_peaks(device: str) -> tuple[float, float]:
    """Measure float32 operations per second of a large matrix product, and bytes per second of a large copy."""
    square = torch.randn(_MATRIX_SIZE, _MATRIX_SIZE, device=device)
    product, source = torch.empty_like(square), torch.randn(_COPY_SIZE, device=device)
    target = torch.empty_like(source)
    multiply = _measure_seconds(lambda: torch.mm(square, square, out=product), device)
    copy = _measure_seconds(lambda: target.copy_(source), device)
    return 2 * _MATRIX_SIZE**3 / multiply, 2 * 4 * _COPY_SIZE / copy


def _measure_seconds(run: Callable[[], object], device: str) -> float:
    taken = []
    for _ in range(9):
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return median(taken[2:])


def count_work(name: str) -> tuple[float, float]:
    """Count the operations and the least memory traffic, in bytes, of one epoch of one round, evaluation included.

    Every layer's output is written and read once in the forward pass, and its gradient once in the backward pass.
    """
    network, data = NETWORKS[name], load_splits(name, 0, "cpu")
    model = network.build()
    images, digits, target = (part[: get_batch_size(name)] for part in data["train"])
    sizes: list[int] = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.numel()))
        for module in model.modules()
        if not list(module.children())
    ]
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    with FlopCounterMode(display=False) as both:
        network.compute_loss(model(images), digits, target).backward()  # type: ignore[no-untyped-call] # torch's
    trained, evaluated = len(data["train"][2]) / len(target), (len(data["val"][2]) + len(data["test"][2])) / len(target)
    operations = trained * both.get_total_flops() + evaluated * forward.get_total_flops()
    return operations, 4 * sum(sizes) * (4 * trained + 2 * evaluated)


def compute_lower_bound(name: str, multiplied: float, copied: float) -> float:
    """Return the least time of one epoch of one round, in seconds, at these peaks."""
    operations, traffic = count_work(name)
    return max(operations / multiplied, traffic / copied)
