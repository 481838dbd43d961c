"""Compilation of kernels: caching on disk, inlining, and identical bits in every process."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from numba.core.dispatcher import Dispatcher

from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.stacking.ops import compilation, kernels
from pairs_lit.stacking.ops.fused_ops import (
    FusedDropout,
    convolve_pool_relu,
    normalise_by_statistics_pool_relu,
    normalise_pool_relu,
)
from pairs_lit.training import loss_kernel
from pairs_lit.training.batch_losses import BatchLosses
from pairs_lit.training.losses import PairLoss


def test_kernel_that_cannot_be_cached_on_disk_is_compiled_in_memory() -> None:
    names: dict[str, Callable[[int], int]] = {}
    exec("def double(x): return 2 * x", names)  # a function without a file, so it cannot be cached
    assert compilation.compile_kernel(names["double"])(3) == 6


def run_all_kernels() -> list[torch.Tensor]:
    """Run every kernel, and return all results."""
    x, weight, bias = torch.rand(2, 16, 8, 8, 32), torch.rand(2, 8, 16, 3, 3) - 0.5, torch.rand(2, 8) - 0.5
    leaves = [part.requires_grad_() for part in (x, weight, bias)]
    dropped = FusedDropout((0.2, 0.2), torch.tensor([[1, 2], [3, 4]], dtype=torch.int32))
    results = []
    for drop in (None, dropped):
        output = convolve_pool_relu(x, weight, bias, drop)
        results += [output, *torch.autograd.grad((output**2).sum(), leaves)]
    output = convolve_pool_relu(x.detach(), weight, bias)
    results += torch.autograd.grad((output**2).sum(), [weight, bias])
    maps, scale, shift = torch.rand(3, 6, 6, 64), torch.rand(3) - 0.5, torch.rand(3) - 0.5
    leaves = [part.requires_grad_() for part in (maps, scale, shift)]
    output, mean, variance = normalise_pool_relu(maps, scale, shift, 1e-5)
    results += [output, mean, variance, *torch.autograd.grad((output**2).sum(), leaves)]
    results.append(normalise_by_statistics_pool_relu(maps, mean, variance, scale, shift, 1e-5))
    logit, logits, digits = torch.randn(3, 32), torch.randn(3, 32, 2, 10), torch.randint(10, (3, 32, 2))
    leaves = [part.requires_grad_() for part in (logit, logits)]
    loss = BatchLosses([PairLoss(digits="ce", label_smoothing=0.1)] * 3)
    losses, measured = loss(PairOutput(logit, "logit", logits), digits, digits[..., 0] % 2)
    return [*results, measured, *torch.autograd.grad((losses.total**2).sum(), leaves)]


@pytest.mark.parametrize(("module", "count"), [(kernels, 15), (loss_kernel, 3)])
def test_helper_functions_of_the_kernels_are_inlined(module: ModuleType, count: int) -> None:
    helpers = [value for name, value in vars(module).items() if name.startswith("_") and isinstance(value, Dispatcher)]
    assert len(helpers) == count
    assert [helper.py_func.__name__ for helper in helpers if helper.targetoptions.get("inline") != "always"] == []


@pytest.mark.slow
def test_compiled_and_loaded_kernels_give_identical_bits(tmp_path: Path) -> None:
    code = (
        "import hashlib, torch\n"
        "from tests.stacking.ops.test_compilation import run_all_kernels\n"
        "torch.manual_seed(0)\n"
        "print([hashlib.md5(part.detach().numpy().tobytes()).hexdigest() for part in run_all_kernels()])\n"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    outputs = [subprocess.check_output([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert list(tmp_path.rglob("*.nbc"))
    assert len(set(outputs)) == 1
