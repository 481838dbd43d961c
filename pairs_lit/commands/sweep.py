"""``pairs-lit sweep``: hyperparameter search over many seeds, with the best trials confirmed on fresh seeds."""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import yaml

from pairs_lit.commands.option_parser import OptionParser
from pairs_lit.configuration.option_text import build_arguments, format_option
from pairs_lit.configuration.python_calls import python_api_context
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.run_folder import to_run_name
from pairs_lit.sweeps.report import Sweep
from pairs_lit.sweeps.spec import read_spec
from pairs_lit.system.paths import expand_user_path

try:
    with warnings.catch_warnings():
        # in a notebook without ipywidgets, Optuna's import warns that its own bars would be text
        warnings.filterwarnings("ignore", "IProgress not found")
        import optuna  # noqa: F401 - imported to report in one line that it is not installed

    from pairs_lit.sweeps.search import Search
except ModuleNotFoundError as error:
    if error.name != "optuna":
        raise
    raise PairsLitError("pairs-lit sweep needs Optuna: pip install 'pairs-lit[sweep]'.") from error


def build_parser() -> OptionParser:
    """Build the argument parser of the command."""
    parser = OptionParser(
        prog="pairs-lit sweep",
        allow_abbrev=False,
        description="Try many option values, each with the same seeds, in as few fits as possible. Then confirm the "
        "best ones and the unchanged config (the baseline) on fresh seeds. Rerun the command to resume. Several "
        "processes that run the same command share the work. Any option of pairs-lit fit may follow.",
    )
    parser.add_argument("--config", action="append", required=True, help="config to vary, as in pairs-lit fit")
    parser.add_argument(
        "--sweep", type=expand_user_path, required=True, help="YAML file with space, metric, rounds and so on"
    )
    parser.add_argument("--name", help="name of the sweep (default: the names of both files)")
    parser.add_argument("--storage", help="Optuna storage URL (default: a journal file in the folder of the sweep)")
    return parser


def run(args: Sequence[str]) -> None:
    """Run the command."""
    options, others = build_parser().parse_known_args(args)
    stems = to_run_name(Path(options.config[-1]).stem), to_run_name(options.sweep.stem)
    name = options.name or to_run_name("-".join(stems))
    base = [*(f"--config={config}" for config in options.config), *others]
    search = Search(base, read_spec(options.sweep), name, options.storage)
    report = search.finish(options.sweep.read_text(encoding="utf-8-sig"))
    print(f"\n{report}\n\nsweep: {report.folder}")


def sweep(
    config: str | Path | Mapping[str, Any],
    sweep: str | Path | Mapping[str, Any],
    changes: Mapping[str, object] | None = None,
    *,
    name: str = "sweep",
    storage: str | None = None,
) -> Sweep:
    """Search option values of a configuration, as ``pairs-lit sweep`` does, and return the results.

    Args:
        config: As for :func:`pairs_lit.fit`.
        sweep: The YAML file of the sweep, or its content as a mapping.
        changes: As for :func:`pairs_lit.fit`.
        name: The name of the sweep. If a sweep of this name was interrupted, it is resumed.
        storage: An Optuna storage URL, or None for a journal file in the folder of the sweep.

    Raises:
        PairsLitError: A setting is invalid, or a file cannot be read or written.
        KeyboardInterrupt: The user interrupted the sweep. The same call resumes it.
    """
    base = build_arguments(config, changes)
    with python_api_context():
        if isinstance(sweep, Mapping):
            content = json.loads(json.dumps(dict(sweep), default=_to_plain_value))
            return Search(base, read_spec(content), name, storage).finish(yaml.safe_dump(content))
        return Search(base, read_spec(sweep), name, storage).finish(Path(sweep).read_text(encoding="utf-8-sig"))


def _to_plain_value(value: object) -> object:
    """Convert a Python value to what the YAML file of a sweep would contain."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, type | FunctionType | Path):
        return format_option(value)
    raise PairsLitError(f"sweep must contain text, numbers, lists, mappings, classes or functions, got {value!r}.")
