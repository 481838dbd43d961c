"""Commands of the LightningCLI (``pairs-lit fit``, ``validate``, ``test``, ``predict``), and ``pairs_lit.fit``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from pairs_lit.configuration.cli import run_lightning_command
from pairs_lit.configuration.option_text import build_arguments
from pairs_lit.configuration.python_calls import python_api_context
from pairs_lit.inference.run import Run


def fit(
    config: str | Path | Mapping[str, Any],
    changes: Mapping[str, object] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train all rounds of a configuration, as ``pairs-lit fit`` does, and return the finished run.

    Args:
        config: A YAML file, or its content as a mapping.
        changes: Options that override the configuration, by dotted name, such as ``{"rounds.count": 20}``. A value may
            be a class or function that can be imported, such as a backbone.
        callbacks: Additional callbacks for the trainer.

    Raises:
        PairsLitError: A setting is invalid, or a file cannot be read or written.
        KeyboardInterrupt: The user interrupted the fit. Its last checkpoint can be resumed.
    """
    with python_api_context():
        cli = run_lightning_command("fit", ["fit", *build_arguments(config, changes)], callbacks)
    return Run.load(str(cli.trainer.log_dir))


def run(command: str, args: list[str]) -> None:
    """Run a command of the LightningCLI and print its results; see :func:`~pairs_lit.configuration.cli.train`."""
    cli = run_lightning_command(command, args)
    if cli.trainer.is_global_zero:
        print(f"\n{cli.result_writer.text}")
