"""Checkpoint files: atomic writes, loading that runs no code, and the run folders they belong to."""

import io
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from pairs_lit.checkpoints.schema import Form, Group, check_form, check_kept, optimizer_state
from pairs_lit.checkpoints.values import plain
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.atomic_write import write_durably
from pairs_lit.runs.run_folder import LAST, enclosing_run, identity_of, looks_like_a_run, new_run_folder
from pairs_lit.runs.run_metadata import DETERMINISTIC
from pairs_lit.system.console import notice

MapLocation = str | torch.device | Callable[..., Any] | dict[str, str] | None

RECORD = "pairs_lit"
"""The key under which a checkpoint says which rounds, data and network it belongs to."""

RUN = "run"
"""The record's key for the identity of the run that wrote the checkpoint; earlier releases wrote none."""

NETWORK = "network"
"""The record's key for the description of the network."""

IMAGE_FORMAT = "image_format"
"""The record's key for the format of the training images, as JSON; earlier releases wrote none."""

USUAL: Mapping[str, int] = {"members": 1, "transpose": False, DETERMINISTIC: True}
"""What a record says only where it is otherwise; earlier releases knew nothing else."""

_RELEASE = re.compile(r"2\.([6-9]|\d\d+)\.\d+")
"""The releases of Lightning that pyproject.toml allows; it would rewrite a checkpoint that claims to be older."""

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
"""What pairs-lit itself keeps in a checkpoint, and as what."""


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints durably and loads tensors and plain values only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write a checkpoint whole or not at all.

        Raises:
            PairsLitError: It holds what no checkpoint can, or the file cannot be written.
        """
        parts = {name: plain(part, name) for name, part in checkpoint.items()}
        if not _is_ours(parts):
            raise PairsLitError(
                f"a callback's on_save_checkpoint changed what pairs-lit itself keeps ({', '.join(_PARTS)}), or added "
                "hyper_parameters: let it keep its own state under another name, or in its state_dict."
            )
        content = io.BytesIO()  # torch.save into a file would hide a full disk behind an error of its own
        torch.save(parts, content)
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


def own_run(path: Path) -> Path | None:
    """Return the run folder that a checkpoint lies in, if it is that of the run that wrote it.

    Raises:
        PairsLitError: As :func:`read_checkpoint`.
    """
    folder = enclosing_run(path)
    if folder is None:
        return None
    wrote = read_checkpoint(path)[RECORD].get(RUN)
    own = looks_like_a_run(folder) if wrote is None else identity_of(folder) == wrote
    return folder if own else None


def own_folder(trainer: Trainer) -> Path | None:
    """Return the run folder that the trainer's checkpoint belongs to, if the command may write into it.

    A fit may not, where the run has got further already: what it holds would be lost.
    """
    if trainer.ckpt_path is None:
        return None
    given = Path(str(trainer.ckpt_path))
    own = own_run(given)
    if own is None or trainer.state.fn != "fit":
        return own
    try:
        reached = read_checkpoint(own / LAST)["epoch"]
    except PairsLitError:  # damaged or gone: there is nothing to lose
        return own
    return own if read_checkpoint(given)["epoch"] >= reached else None


def folder_of(trainer: Trainer, name: str) -> Path:
    """Return :func:`own_folder`, else a new run folder of this name; a notice says so where there is a checkpoint."""
    own = own_folder(trainer)
    if own is not None:
        return own
    new = new_run_folder(Path(trainer.default_root_dir), name)
    if trainer.ckpt_path is not None:
        given = Path(str(trainer.ckpt_path))
        other = "does not lie in the run folder of its own run"
        reason = other if own_run(given) is None else "is not the latest of its run"
        notice(f"{given} {reason}, so this writes into a new one: {new}")
    return new


def sign(checkpoint: dict[str, Any], form: Form, record: Mapping[str, Any], trainer: Trainer) -> None:
    """Record what a config that loads the checkpoint must share; leave out the schedule, which follows from it.

    Raises:
        PairsLitError: The weights do not have the form that loading will ask for, or a callback set another epoch.
    """
    check_kept(form.tensors(checkpoint["state_dict"]), form.example)
    if checkpoint["epoch"] != trainer.current_epoch:
        raise PairsLitError("a callback's on_save_checkpoint set another epoch: leave that as it is.")
    said = {name: value for name, value in record.items() if name not in USUAL or USUAL[name] != value}
    checkpoint[RECORD] = {**said, RUN: identity_of(Path(str(trainer.log_dir)))}
    checkpoint["lr_schedulers"] = []


def prepare(checkpoint: dict[str, Any], trainer: Trainer, groups: Sequence[Group]) -> None:
    """Refuse what a loaded checkpoint holds beside its weights where it is damaged.

    Settings come from the config alone: it makes the optimizer of the groups, and the schedule is replayed.

    Raises:
        PairsLitError: A part has another form than this config would have saved.
    """
    loops = {name: getattr(trainer, name) for name in ("fit_loop", "validate_loop", "test_loop", "predict_loop")}
    check_form("loops are", checkpoint["loops"], {name: loop.state_dict() for name, loop in loops.items()})
    if trainer.state.fn == "fit":
        checkpoint["optimizer_states"] = [optimizer_state(checkpoint["optimizer_states"], groups)]
        checkpoint["lr_schedulers"] = []
