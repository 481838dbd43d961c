"""A stand-in for a GPU: torch's meta device, on which tensors have shapes but no values, with a watch over epochs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from torch import Tensor
from torch._C import DispatchKey
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pairs_lit.configuration.cli import ParseOnlyCLI, run_lightning_command
from pairs_lit.configuration.option_text import format_options
from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.training.module import PairModule
from pairs_lit.training.round_runner import RoundRunner
from pairs_lit.workers.strategy import StackStrategy

META = torch.device("meta")

_SYNCHRONISING = ("nonzero", "masked_select", "_unique", "unique", "equal", "is_nonzero", "repeat_interleave.Tensor")
"""Operators for which the CPU waits for a GPU, because a size or a decision depends on values."""


class DeviceWatch(TorchDispatchMode):
    """Dispatch mode that records what an epoch on a GPU should not do; values that leave the meta device are zeros.

    Attributes:
        calls: The operators within steps.
        on_cpu: The operators within steps that have a tensor on the CPU, except for copies to the device. While an
            optimizer updates the weights, its counters of steps are allowed there; fused optimizers, as on CUDA, hold
            them on the GPU.
        float64: The operators that have a float64 tensor on the device.
        synchronising: The operators for which the CPU waits for the device.
        to_cpu: The shapes of the tensors that are copied to the CPU.
        to_device: The shapes of the tensors that are copied to the device, in steps or between them.
        is_in_step: Whether a step is running.
        is_updating: Whether an optimizer is updating the weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.on_cpu: list[str] = []
        self.float64: list[str] = []
        self.synchronising: list[str] = []
        self.to_cpu: list[torch.Size] = []
        self.to_device: list[torch.Size] = []
        self.is_in_step = self.is_updating = False

    def __torch_dispatch__(
        self,
        func: OpOverload[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        if func.has_kernel_for_dispatch_key(DispatchKey.CompositeImplicitAutograd):  # such as ``to`` in inference mode
            with self:
                return func.decompose(*args, **(kwargs or {}))
        name, inputs = str(func).removeprefix("aten."), _list_tensors((args, kwargs))
        if name.startswith("_local_scalar_dense") and inputs[0].is_meta:
            self.synchronising.append(name)
            return torch.zeros((), dtype=inputs[0].dtype).item()
        if self._leaves_device(name, args, kwargs or {}):
            self.to_cpu.append(inputs[-1].shape)
            return args[0].zero_() if name.startswith("copy_") else torch.zeros(args[0].shape, dtype=args[0].dtype)
        result = func(*args, **(kwargs or {}))
        self._record(name, inputs, _list_tensors(result))
        return result

    def _leaves_device(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        if name.startswith("copy_"):
            return bool(args[1].is_meta and not args[0].is_meta)
        return name.startswith("_to_copy") and args[0].is_meta and kwargs.get("device", META) != META

    def _record(self, name: str, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        tensors = inputs + outputs
        enters = any(output.is_meta for output in outputs) and inputs != [] and not any(each.is_meta for each in inputs)
        if enters:
            self.to_device.append(inputs[0].shape)
        if any(tensor.is_meta and tensor.dtype == torch.float64 for tensor in tensors):
            self.float64.append(name)
        has_mask = name.startswith("index") and any(tensor.dtype == torch.bool for tensor in inputs[1:])
        if any(tensor.is_meta for tensor in inputs) and (has_mask or name.startswith(_SYNCHRONISING)):
            self.synchronising.append(name)
        if self.is_in_step:
            self.calls[name] += 1
            is_copied = enters or name.startswith("lift_fresh")  # a new tensor of numbers, about to be copied
            on_cpu = [tensor for tensor in tensors if not tensor.is_meta]
            if not is_copied and any(tensor.dim() > 0 or not self.is_updating for tensor in on_cpu):
                self.on_cpu.append(name)


def _list_tensors(values: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class EpochWatch(Callback):
    """Watches one epoch, from the end of the one before: its steps, its evaluation and the collection of its metrics.

    Args:
        epoch: The epoch, 1 or more. In the first one, constants are copied to the device.
    """

    def __init__(self, epoch: int = 1) -> None:
        self._epoch = epoch
        self.watch = DeviceWatch()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == self._epoch - 1:
            self.watch.__enter__()
        elif trainer.current_epoch == self._epoch:
            self.watch.__exit__(None, None, None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if trainer.current_epoch == self._epoch:
            self.watch.__exit__(None, None, None)

    def on_train_batch_start(self, *args: object) -> None:
        self.watch.is_in_step = True

    def on_before_optimizer_step(self, *args: object) -> None:
        self.watch.is_updating = True

    def on_train_batch_end(self, *args: object) -> None:
        self.watch.is_in_step = self.watch.is_updating = False

    def on_validation_batch_start(self, *args: object) -> None:
        self.watch.is_in_step = True

    def on_validation_batch_end(self, *args: object) -> None:
        self.watch.is_in_step = False


class MetaAccelerator(CPUAccelerator):
    """Accelerator whose devices are torch's meta device."""

    def setup_device(self, device: torch.device) -> None:
        assert device == META

    @staticmethod
    def get_parallel_devices(devices: int) -> list[torch.device]:
        return [META] * devices


class _Builder(ParseOnlyCLI):
    """Command line that builds the module, the data and the rounds of a configuration, but no trainer."""

    def instantiate_classes(self) -> None:
        self.objects = self.parser.instantiate_classes(self.config).fit


Parts = tuple[RoundRunner, PairModule, PairDataModule]


def build_parts(config: str | Path, **options: object) -> Parts:
    """Build the rounds, the module and the data of a configuration; two underscores stand for a dot."""
    texts = format_options({name.replace("__", "."): value for name, value in options.items()})
    objects = cast(Any, run_lightning_command("fit", ["fit", f"--config={config}", *texts], kind=_Builder)).objects
    return objects.rounds, objects.model, objects.data


def build_trainer(root: Path, callbacks: Iterable[Callback], **options: Any) -> Trainer:  # noqa: ANN401 - any option
    """Build a trainer whose only device is the meta device."""
    return Trainer(
        strategy=StackStrategy(MetaAccelerator(), [META]),
        devices=1,
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=root,
        callbacks=list(callbacks),
        **options,
    )


def watch_epoch(parts: Parts, root: Path) -> DeviceWatch:
    """Train two epochs on the meta device and return what happened in the second."""
    runner, module, data = parts
    watch = EpochWatch()
    with DeviceWatch():  # at the end, Lightning moves the module to the CPU
        build_trainer(root, [runner, watch]).fit(module, data)
    assert runner.epochs == 2
    return watch.watch
