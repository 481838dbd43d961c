"""Checkpoints: written whole or not at all, read without running any code, refused where they do not match."""

import io
import re
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from pairs_lit.durable import write_durably
from pairs_lit.errors import PairsLitError
from pairs_lit.saved_state import fits

MapLocation = str | torch.device | Callable[..., Any] | dict[str, str] | None

RECORD = "pairs_lit"
"""The key under which a checkpoint says which rounds, data and network it belongs to."""

SAVE_SECONDS = 30.0

_RELEASE = re.compile(r"2\.([6-9]|\d\d+)\.\d+")
"""The releases of Lightning that pyproject.toml allows; it would rewrite a checkpoint that claims to be older."""


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
        with zipfile.ZipFile(path) as archive, warnings.catch_warnings(action="ignore"):
            altered = archive.testzip()  # torch itself reads flipped bits without a word
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # what the unpickler raises on foreign bytes has no end
        raise PairsLitError(
            f"--ckpt_path {path}: damaged, or not a checkpoint of tensors and plain values; nothing in it was executed."
        ) from error
    if altered is not None:
        raise PairsLitError(f"--ckpt_path {path}: damaged: the checksum of {altered!r} in it is wrong.")
    if not _is_ours(checkpoint):
        raise PairsLitError(f"--ckpt_path {path}: not a checkpoint that pairs-lit wrote.")
    return checkpoint


_PARTS = {
    RECORD: dict,
    "pytorch-lightning_version": str,
    "epoch": int,
    "state_dict": dict,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
}


def _is_ours(checkpoint: object) -> TypeGuard[dict[str, Any]]:
    if not isinstance(checkpoint, dict) or "hyper_parameters" in checkpoint:
        return False
    if not all(isinstance(checkpoint.get(name), kind) for name, kind in _PARTS.items()):
        return False
    current = _RELEASE.match(checkpoint["pytorch-lightning_version"]) is not None
    return current and all(map(_is_plain, checkpoint[RECORD].values()))


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(each, str | int) for each in value)
    return isinstance(value, str | int | None)


def check_match(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose record differs from the configuration's.

    Raises:
        PairsLitError: A recorded value differs; the message names the first.
    """
    for name, value in wanted.items():
        if name not in saved or not fits(saved[name], value) or saved[name] != value:
            here, there = _first_difference(saved.get(name), value)
            raise PairsLitError(
                f"the checkpoint does not match the config: {name} is {_short(here)} in the checkpoint and "
                f"{_short(there)} in the config. Use the config.yaml of the checkpoint's own run."
            )


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
