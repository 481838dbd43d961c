"""``pairs-lit fit``, ``validate``, ``test``, ``predict``: run the LightningCLI; and :func:`fit` for Python."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from pairs_lit.configuration.cli import train
from pairs_lit.configuration.option_text import arguments_of
from pairs_lit.configuration.python_calls import python_api_context
from pairs_lit.inference.run import Run


def fit(
    config: str | Path | Mapping[str, Any],
    changes: Mapping[str, object] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train all rounds of a configuration, as ``pairs-lit fit`` does, and return the finished run.

    Args:
        config: A YAML file, or what one would hold.
        changes: Options that beat the configuration, by dotted name: ``{"rounds.count": 20}``. A value may be a class
            or function that can be imported, for instance a backbone.
        callbacks: More callbacks for the trainer.

    Raises:
        PairsLitError: The user can correct something.
        KeyboardInterrupt: It was interrupted; what was saved is kept.
    """
    with python_api_context():
        cli = train("fit", ["fit", *arguments_of(config, changes)], callbacks)
    return Run.load(str(cli.trainer.log_dir))


def run(command: str, args: list[str]) -> None:
    """Run a command and show its results; see :func:`train`."""
    cli = train(command, args)
    if cli.trainer.is_global_zero:
        print(f"\n{cli.outcome.text}")
