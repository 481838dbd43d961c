"""What every trainer gets: defaults, loggers, the checkpoint plugin."""

from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.loggers.logger import DummyLogger

from pairs_lit.checkpoints.files import DurableCheckpointIO
from pairs_lit.errors import PairsLitError
from pairs_lit.workers.strategy import NAME

TRAINER_DEFAULTS = {
    "accelerator": "cpu",
    "devices": "auto",
    "strategy": NAME,
    "max_epochs": 25,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "logger": False,
}


def build_loggers(wanted: object) -> list[object]:
    """Return the user's loggers, and one in place of ours until there is a run folder: some callbacks need one."""
    if wanted is True:
        raise PairsLitError(
            "trainer.logger is true: every run has TensorBoard files of its own; name the class of another logger, or "
            "leave it out."
        )
    return [DummyLogger(), *as_list(wanted or None)]


def as_list(value: object) -> list[object]:
    """Return one thing, several, or none as a list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def add_checkpoint_plugin(theirs: list[object]) -> list[object]:
    """Add ours to the user's plugins."""
    other = next((each for each in theirs if isinstance(each, CheckpointIO)), None)
    if other is not None:
        raise PairsLitError(
            f"trainer.plugins: {type(other).__name__} would write checkpoints in another way than ours, which are "
            "whole or not there, and run no code: leave it out."
        )
    return [*theirs, DurableCheckpointIO()]
