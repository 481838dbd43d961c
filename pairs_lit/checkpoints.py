"""Checkpoints: written whole or not at all, read without running any code, refused where they do not match."""

import io
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from pairs_lit.durable import write_durably
from pairs_lit.errors import PairsLitError

MapLocation = str | torch.device | Callable[..., Any] | dict[str, str] | None

RECORD = "pairs_lit"
"""The key under which a checkpoint says which rounds, data and network it belongs to."""

SAVE_SECONDS = 30.0


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints durably and loads tensors and plain values only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write a checkpoint whole or not at all."""
        content = io.BytesIO()  # torch.save into a file would hide a full disk behind an error of its own
        torch.save(checkpoint, content)
        write_durably(Path(path), lambda file: file.write(content.getbuffer()))

    def load_checkpoint(
        self, path: str | Path, map_location: MapLocation = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint with :func:`read_checkpoint`, whatever ``weights_only`` says."""
        return read_checkpoint(Path(path), map_location)


def read_checkpoint(path: Path, map_location: MapLocation = "cpu") -> dict[str, Any]:
    """Read one of our checkpoints; nothing in it is executed.

    Raises:
        PairsLitError: The file does not exist, is damaged, holds more than tensors and plain values, or is not ours.
    """
    if not path.is_file():
        raise PairsLitError(f"--ckpt_path {path}: no such file; give a checkpoint such as RUN/checkpoints/last.ckpt.")
    try:
        with warnings.catch_warnings(action="ignore"):
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # what the unpickler raises on foreign bytes has no end
        raise PairsLitError(
            f"--ckpt_path {path}: damaged, or not a checkpoint of tensors and plain values; nothing in it was executed."
        ) from error
    if not isinstance(checkpoint, dict) or RECORD not in checkpoint or "hyper_parameters" in checkpoint:
        raise PairsLitError(f"--ckpt_path {path}: not a checkpoint that pairs-lit wrote.")
    return checkpoint


def check_match(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose record differs from the configuration's.

    Raises:
        PairsLitError: A recorded value differs; the message names the first.
    """
    for name, value in wanted.items():
        if name not in saved or saved[name] != value:
            here, there = _first_difference(saved.get(name), value)
            raise PairsLitError(
                f"the checkpoint does not match the config: {name} is {_short(here)} in the checkpoint and "
                f"{_short(there)} in the config. Use the config.yaml of the checkpoint's own run."
            )


def check_weights(saved: object, wanted: Mapping[str, torch.Tensor]) -> None:
    """Refuse weights that are not those of the network, whatever the record says.

    Raises:
        PairsLitError: A tensor is missing, or there is one too many, or one has another shape.
    """
    shapes = {name: value.shape for name, value in saved.items()} if _is_tensors(saved) else None
    if shapes != {name: value.shape for name, value in wanted.items()}:
        raise PairsLitError("the checkpoint is damaged: its weights are not those of the network that it records.")


def _is_tensors(value: object) -> TypeGuard[Mapping[str, torch.Tensor]]:
    return isinstance(value, Mapping) and all(isinstance(each, torch.Tensor) for each in value.values())


def _first_difference(saved: object, wanted: object) -> tuple[object, object]:
    """Narrow two lists of equal length down to their first different entries."""
    if isinstance(saved, list) and isinstance(wanted, list) and len(saved) == len(wanted):
        return next((pair for pair in zip(saved, wanted, strict=True) if pair[0] != pair[1]), (saved, wanted))
    return saved, wanted


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


class LastCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt`` in the run folder: at the last epoch, and before it at most every 30 seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._saved_at = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where it is time to."""
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if last or time.monotonic() - self._saved_at > SAVE_SECONDS:
            trainer.save_checkpoint(Path(str(trainer.log_dir)) / "checkpoints" / "last.ckpt")
            self._saved_at = time.monotonic()
