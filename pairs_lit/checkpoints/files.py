"""Checkpoint files: atomic writes, safe loading, metadata, and the run folders that they belong to."""

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

from pairs_lit.checkpoints.schema import (
    ParameterGroup,
    StateSchema,
    build_optimizer_state,
    check_saveable,
    check_schema,
)
from pairs_lit.checkpoints.values import to_plain_values
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.atomic_write import write_atomically
from pairs_lit.runs.run_folder import (
    LAST_CHECKPOINT,
    create_run_folder,
    find_enclosing_run,
    is_unmarked_run,
    read_run_identity,
)
from pairs_lit.runs.run_metadata import DETERMINISTIC_KEY
from pairs_lit.system.console import print_notice

MapLocation = str | torch.device | Callable[..., Any] | dict[str, str] | None

METADATA_KEY = "pairs_lit"
"""The key of a checkpoint's metadata, which record the rounds, data and network that it belongs to."""

RUN_KEY = "run"
"""The metadata key for the identity of the run that wrote the checkpoint; earlier releases did not write it."""

NETWORK_KEY = "network"
"""The metadata key for the description of the network."""

IMAGE_FORMAT_KEY = "image_format"
"""The metadata key for the format of the training images, as JSON; earlier releases did not write it."""

METADATA_DEFAULTS: Mapping[str, int] = {"members": 1, "transpose": False, DETERMINISTIC_KEY: True}
"""Default values, which the metadata leave out; earlier releases supported no others."""

_LIGHTNING_RELEASE = re.compile(r"2\.([6-9]|\d\d+)\.\d+")
"""The releases of Lightning that pyproject.toml allows.

Lightning would migrate a checkpoint that claims to be older.
"""

_PART_TYPES = {
    METADATA_KEY: dict,
    "pytorch-lightning_version": str,
    "epoch": int,
    "state_dict": dict,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
}
"""The entries of a checkpoint that belong to pairs-lit and Lightning, and their types."""


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically, and loads only tensors and plain values."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write a checkpoint atomically.

        Raises:
            PairsLitError: The checkpoint holds a value that cannot be saved, or the file cannot be written.
        """
        parts = {name: to_plain_values(part, name) for name, part in checkpoint.items()}
        if not _is_checkpoint(parts):
            raise PairsLitError(
                f"a callback's on_save_checkpoint changed an entry of pairs-lit ({', '.join(_PART_TYPES)}) or added "
                "hyper_parameters. Save the callback's state under another name, or in its state_dict."
            )
        content = io.BytesIO()  # if torch.save wrote to the file, its error would not show that the disk is full
        torch.save(parts, content)
        write_atomically(Path(path), lambda file: file.write(content.getbuffer()))

    def load_checkpoint(
        self, path: str | Path, map_location: MapLocation = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint with :func:`read_checkpoint`; ``weights_only`` is ignored."""
        return read_checkpoint(Path(path), map_location)


def read_checkpoint(path: Path, map_location: MapLocation = "cpu") -> dict[str, Any]:
    """Read a checkpoint that pairs-lit wrote, without executing anything in it.

    Raises:
        PairsLitError: The file does not exist, is damaged, holds more than tensors and plain values, or was not
            written by pairs-lit.
    """
    if not path.is_file():
        raise PairsLitError(f"--ckpt_path {path}: no such file. Pass a checkpoint such as RUN/checkpoints/last.ckpt.")
    try:
        with zipfile.ZipFile(path) as archive, warnings.catch_warnings(action="ignore"):
            altered = archive.testzip()  # torch does not notice flipped bits
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # the unpickler can raise anything on a foreign file
        raise PairsLitError(
            f"--ckpt_path {path}: damaged, or not a checkpoint of tensors and plain values; nothing in it was executed."
        ) from error
    if altered is not None:
        raise PairsLitError(f"--ckpt_path {path}: damaged: the checksum of {altered!r} in it is wrong.")
    if not _is_checkpoint(checkpoint):
        raise PairsLitError(f"--ckpt_path {path}: not a checkpoint that pairs-lit wrote.")
    return checkpoint


def _is_checkpoint(checkpoint: object) -> TypeGuard[dict[str, Any]]:
    """Return whether a value has the entries of a checkpoint that pairs-lit wrote."""
    if not isinstance(checkpoint, dict) or "hyper_parameters" in checkpoint:
        return False
    if not all(isinstance(checkpoint.get(name), kind) for name, kind in _PART_TYPES.items()):
        return False
    current = _LIGHTNING_RELEASE.match(checkpoint["pytorch-lightning_version"]) is not None
    return current and all(map(_is_plain, checkpoint[METADATA_KEY].values()))


def _is_plain(value: object) -> bool:
    """Return whether a value has a type that metadata may have."""
    if isinstance(value, list):
        return all(isinstance(item, str | int) for item in value)
    return isinstance(value, str | int | None)


def find_run(path: Path) -> Path | None:
    """Return the run folder that contains a checkpoint, or None if another run wrote the checkpoint.

    Raises:
        PairsLitError: As for :func:`read_checkpoint`.
    """
    folder = find_enclosing_run(path)
    if folder is None:
        return None
    identity = read_checkpoint(path)[METADATA_KEY].get(RUN_KEY)
    is_writer = is_unmarked_run(folder) if identity is None else read_run_identity(folder) == identity
    return folder if is_writer else None


def find_writable_run(trainer: Trainer) -> Path | None:
    """Return the run folder of the trainer's checkpoint, or None if the command must not write into it.

    A fit must not resume an older checkpoint of a run in the run's own folder, since the later epochs would be lost.
    """
    if trainer.ckpt_path is None:
        return None
    path = Path(str(trainer.ckpt_path))
    run = find_run(path)
    if run is None or trainer.state.fn != "fit":
        return run
    try:
        last_epoch = read_checkpoint(run / LAST_CHECKPOINT)["epoch"]
    except PairsLitError:  # the file is damaged or missing, so there is nothing to lose
        return run
    return run if read_checkpoint(path)["epoch"] >= last_epoch else None


def choose_run_folder(trainer: Trainer, name: str) -> Path:
    """Return :func:`find_writable_run` or else a new run folder, with a notice if the trainer has a checkpoint."""
    run = find_writable_run(trainer)
    if run is not None:
        return run
    new_run = create_run_folder(Path(trainer.default_root_dir), name)
    if trainer.ckpt_path is not None:
        path = Path(str(trainer.ckpt_path))
        is_foreign = find_run(path) is None
        reason = "is not in the folder of the run that wrote it" if is_foreign else "is not the latest of its run"
        print_notice(f"{path} {reason}, so the results go into a new run folder: {new_run}")
    return new_run


def add_metadata(checkpoint: dict[str, Any], form: StateSchema, record: Mapping[str, Any], trainer: Trainer) -> None:
    """Add the metadata that a config must share to load the checkpoint.

    The state of the schedule is removed, since the schedule is replayed on loading.

    Raises:
        PairsLitError: The weights do not match the schema that loading requires, or a callback changed the epoch.
    """
    check_saveable(form.select_tensors(checkpoint["state_dict"]), form.example)
    if checkpoint["epoch"] != trainer.current_epoch:
        raise PairsLitError("a callback's on_save_checkpoint changed the checkpoint's epoch. Leave it unchanged.")
    not_default = {
        name: value
        for name, value in record.items()
        if name not in METADATA_DEFAULTS or METADATA_DEFAULTS[name] != value
    }
    checkpoint[METADATA_KEY] = {**not_default, RUN_KEY: read_run_identity(Path(str(trainer.log_dir)))}
    checkpoint["lr_schedulers"] = []


def prepare_for_loading(checkpoint: dict[str, Any], trainer: Trainer, groups: Sequence[ParameterGroup]) -> None:
    """Check the entries of a checkpoint other than its weights, and prepare them for Lightning, in place.

    The settings of the optimizer come from the config alone, and the schedule is replayed.

    Raises:
        PairsLitError: An entry is not one that this config would have saved.
    """
    loops = {name: getattr(trainer, name) for name in ("fit_loop", "validate_loop", "test_loop", "predict_loop")}
    check_schema("loops are", checkpoint["loops"], {name: loop.state_dict() for name, loop in loops.items()})
    if trainer.state.fn == "fit":
        checkpoint["optimizer_states"] = [build_optimizer_state(checkpoint["optimizer_states"], groups)]
        checkpoint["lr_schedulers"] = []
