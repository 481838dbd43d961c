"""Trainer defaults, loggers and the checkpoint plugin of every run."""

from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.loggers.logger import DummyLogger

from pairs_lit.checkpoints.files import DurableCheckpointIO
from pairs_lit.errors import PairsLitError
from pairs_lit.workers.strategy import STRATEGY_NAME

TRAINER_DEFAULTS = {
    "accelerator": "cpu",
    "devices": "auto",
    "strategy": STRATEGY_NAME,
    "max_epochs": 25,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "logger": False,
}


def build_loggers(logger: object) -> list[object]:
    """Return a placeholder logger followed by the loggers of the user.

    The run's own logger replaces the placeholder once the run folder exists. Some callbacks need a logger before that.

    Raises:
        PairsLitError: The option is true instead of a logger.
    """
    if logger is True:
        raise PairsLitError(
            "trainer.logger must be the class of a logger, got true. Leave it out to get only the TensorBoard files "
            "that every run writes."
        )
    return [DummyLogger(), *as_list(logger or None)]


def as_list(value: object) -> list[object]:
    """Return a list unchanged, None as an empty list, and any other value as a list of one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def add_checkpoint_plugin(plugins: list[object]) -> list[object]:
    """Return the user's plugins and the one that writes checkpoints atomically.

    Raises:
        PairsLitError: One of the user's plugins writes checkpoints as well.
    """
    other = next((plugin for plugin in plugins if isinstance(plugin, CheckpointIO)), None)
    if other is not None:
        raise PairsLitError(
            f"trainer.plugins must not contain a checkpoint plugin, got {type(other).__name__}. Leave it out; "
            "pairs-lit writes checkpoints atomically and loads them without executing code."
        )
    return [*plugins, DurableCheckpointIO()]
