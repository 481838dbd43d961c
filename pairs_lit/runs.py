"""Run folders: ``lightning_logs/<config name>/<UTC time>-<n>/``."""

import itertools
import re
from datetime import UTC, datetime
from pathlib import Path

from pairs_lit.durable import write_text_durably
from pairs_lit.errors import PairsLitError, notice

CONFIG = "config.yaml"
CHECKPOINTS = "checkpoints"
LAST = f"{CHECKPOINTS}/last.ckpt"


def check_name(name: str) -> str:
    """Return a run name, unless it could not be a plain folder's.

    Raises:
        PairsLitError: The name holds more than letters, digits, ``.``, ``_`` and ``-``, or begins with a dot.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", name):
        raise PairsLitError(
            f"--name {name!r}: use letters, digits, '.', '_' and '-' (the config file's name is the default)."
        )
    return name


def new_run_folder(root: Path, name: str) -> Path:
    """Make a run folder that did not exist before.

    Args:
        root: What holds, or is to hold, ``lightning_logs``.
        name: The config's name.

    Raises:
        PairsLitError: The folder cannot be made.
    """
    parent = root / "lightning_logs" / check_name(name)
    time = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for n in itertools.count(1):
            folder = parent / f"{time}-{n}"
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise PairsLitError(
            f"no run folder can be made in {parent} ({error.strerror}): set --trainer.default_root_dir to a folder "
            "that you may write to."
        ) from error
    raise AssertionError("unreachable: the count is endless")


def keep_config(run: Path, text: str, epoch: int) -> None:
    """Write ``config.yaml`` of a run.

    A run that goes on with another config keeps the former one as ``config-until-epoch-N.yaml``.

    Args:
        run: The run folder.
        text: The configuration.
        epoch: How many epochs are over.
    """
    file, former = run / CONFIG, run / f"config-until-epoch-{epoch}.yaml"
    if file.is_file() and file.read_text(encoding="utf-8") != text and not former.exists():
        write_text_durably(former, file.read_text(encoding="utf-8"))
        notice(f"{run} goes on with another config from epoch {epoch + 1} on; the former one is {former.name}.")
    write_text_durably(file, text)


def run_folder_of(checkpoint: Path) -> Path:
    """Return the run folder of ``RUN/checkpoints/last.ckpt``; of a checkpoint elsewhere, the folder it lies in."""
    folder = checkpoint.absolute().parent
    return folder.parent if folder.name == CHECKPOINTS else folder
