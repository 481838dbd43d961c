"""Checkpoints: written whole or not at all, read without running any code, refused where they do not match."""

import io
import math
import re
import shlex
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeGuard

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from pairs_lit.checkpoints.schema import Form, Group, check_form, check_kept, fits, optimizer_state
from pairs_lit.checkpoints.values import plain
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.atomic_write import write_durably
from pairs_lit.runs.run_folder import LAST, enclosing_run, identity_of, looks_like_a_run, new_run_folder
from pairs_lit.runs.run_metadata import DETERMINISTIC, FINGERPRINT, UNRECORDED
from pairs_lit.system.console import notice
from pairs_lit.system.lightning_hooks import spares_batches
from pairs_lit.system.signals import announce, announced, check_announced, check_asked, postponed
from pairs_lit.workers.cluster import requeue

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

SAVE_SECONDS = 30.0

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


def check_match(saved: Mapping[str, Any], wanted: Mapping[str, Any], hint: str = "") -> None:
    """Raise PairsLitError if a checkpoint's record differs from the configuration's; name the first difference.

    Args:
        saved: The record.
        wanted: That of the configuration.
        hint: What else may have changed where the network differs.
    """
    saved = {**UNRECORDED, **USUAL, **saved}
    for name, value in wanted.items():
        if name == FINGERPRINT and saved.get(name) != value:
            if name in saved:  # earlier releases recorded none
                raise PairsLitError(
                    "the checkpoint does not match the data: the SHA-256 of all images and labels of "
                    f"{saved.get('source')} is {str(saved[name])[:8]}… in the checkpoint and {str(value)[:8]}… now. "
                    f"{_explain_other_images(saved, wanted)}"
                )
        elif name == DETERMINISTIC:  # seen only by chance, and of no account where the images are the same
            continue
        elif name not in saved or not fits(saved[name], value) or saved[name] != value:
            here, there = _first_difference(saved.get(name), value)
            raise PairsLitError(
                f"the checkpoint does not match the config: {name} is {_short(here)} in the checkpoint and "
                f"{_short(there)} in the config. Use the config.yaml of the checkpoint's own run"
                f"{hint if name == NETWORK else ''}."
            )


def _explain_other_images(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return why the images may be others than those of the checkpoint, and what to do."""
    source = str(saved.get("source"))
    if not (saved.get(DETERMINISTIC, True) and wanted.get(DETERMINISTIC, True)):
        return (
            f"The dataset {source} returns different images each time it is read, so those of the run cannot be read "
            "again. Remove the random transform from the dataset, set data.augment instead, and train again."
        )
    if source.startswith("EMNIST"):
        return (
            "Set data.root to the data that the run was trained on; if an earlier release trained it, which read "
            "EMNIST with rows and columns exchanged, train again."
        )
    own = "; if the dataset draws random numbers when it is made, give it a fixed seed" if "." in source else ""
    return f"Set data.root to the data that the run was trained on{own}."


def _first_difference(saved: object, wanted: object) -> tuple[object, object]:
    """Narrow two lists down to their first different entries, if they are of equal length or too long to be shown."""
    if not isinstance(saved, list) or not isinstance(wanted, list):
        return saved, wanted
    if len(saved) != len(wanted) and _short(saved) != _short(wanted):
        return saved, wanted
    return next((pair for pair in zip(saved, wanted, strict=False) if pair[0] != pair[1]), (saved, wanted))


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


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


@spares_batches
class LastCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt`` in the run folder.

    It is saved after the first and the last epoch, else at most every 30 seconds. SIGUSR1, by which a cluster announces
    the end of a job, has it saved at the end of the epoch, and ends the fit there.
    """

    def __init__(self) -> None:
        super().__init__()
        self._saved_at = -math.inf  # what no checkpoint can hold must show while little is lost
        self._postponed = ExitStack()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on, the end of a job is announced to :meth:`on_train_epoch_end`."""
        self._postponed.enter_context(postponed())

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """End here, between two steps, if a signal has asked for it."""
        check_asked()

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """As in training."""
        check_asked()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where it is time to, or where the end of the job was announced to any of the workers."""
        strategy, last = trainer.strategy, trainer.current_epoch + 1 == trainer.max_epochs
        due = trainer.is_global_zero and (last or time.monotonic() - self._saved_at > SAVE_SECONDS)
        if not strategy.reduce_boolean_decision(due or announced(), all=False):
            return
        run = Path(str(trainer.log_dir))
        trainer.save_checkpoint(run / LAST)
        self._saved_at = time.monotonic()
        if strategy.reduce_boolean_decision(announced(), all=False) and not last:
            announce()
            if trainer.is_global_zero:
                requeue()
            check_announced(shlex.join(["pairs-lit", "fit", str(run)]))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for announcements no longer."""
        self._postponed.close()
        check_asked()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Wait for announcements no longer."""
        self._postponed.close()


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
