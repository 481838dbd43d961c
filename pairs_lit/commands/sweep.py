"""``pairs-lit sweep``: many values and many seeds in few fits, a winner, and what fresh seeds say of it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import yaml

from pairs_lit.commands.option_parser import OptionParser
from pairs_lit.configuration.option_text import arguments_of, format_option
from pairs_lit.configuration.python_calls import python_api_context
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.run_folder import name_from
from pairs_lit.sweeps.report import Sweep
from pairs_lit.sweeps.spec import read_spec
from pairs_lit.system.paths import user_path

try:
    import optuna  # noqa: F401 - asked for here, for one line that says how to install it

    from pairs_lit.sweeps.search import Search
except ModuleNotFoundError as error:
    if error.name != "optuna":
        raise
    raise PairsLitError("pairs-lit sweep needs Optuna: pip install 'pairs-lit[sweep]'.") from error


def parser() -> OptionParser:
    """Return the parser of the command line."""
    found = OptionParser(
        prog="pairs-lit sweep",
        allow_abbrev=False,
        description="Try many values of options, each with the same seeds, in as few fits as possible; then train the "
        "best ones and the config as it is on fresh seeds. The same call goes on with what was interrupted; several at "
        "a time share the work. Any option of pairs-lit fit may follow.",
    )
    found.add_argument("--config", action="append", required=True, help="the config, as for pairs-lit fit")
    found.add_argument("--sweep", type=user_path, required=True, help="the sweep's file: space, metric, rounds …")
    found.add_argument("--name", help="the sweep's name; default: the names of both files")
    found.add_argument("--storage", help="a URL of Optuna's; default: a journal in the sweep's folder")
    return found


def run(args: Sequence[str]) -> None:
    """Run the command."""
    options, others = parser().parse_known_args(args)
    name = options.name or f"{name_from(Path(options.config[-1]).stem)}-{name_from(options.sweep.stem)}"
    base = [*(f"--config={config}" for config in options.config), *others]
    found = Search(base, read_spec(options.sweep), name, options.storage).finish(options.sweep.read_text("utf-8"))
    print(f"\n{found}\n\nsweep: {found.folder}")


def sweep(
    config: str | Path | Mapping[str, Any],
    sweep: str | Path | Mapping[str, Any],
    changes: Mapping[str, object] | None = None,
    *,
    name: str = "sweep",
    storage: str | None = None,
) -> Sweep:
    """Search values of a configuration, as ``pairs-lit sweep`` does, and return what came of it.

    Args:
        config: As for :func:`pairs_lit.fit`.
        sweep: The sweep's file, or what one would hold.
        changes: As for :func:`pairs_lit.fit`.
        name: The sweep's name: the same call goes on with a sweep of this name.
        storage: A URL of Optuna's; None: a journal in the sweep's folder.

    Raises:
        PairsLitError: The user can correct something.
        KeyboardInterrupt: It was interrupted; what was saved is kept, and the same call resumes.
    """
    base = arguments_of(config, changes)
    with python_api_context():
        if isinstance(sweep, Mapping):
            content = json.loads(json.dumps(dict(sweep), default=_plain))
            return Search(base, read_spec(content), name, storage).finish(yaml.safe_dump(content))
        return Search(base, read_spec(sweep), name, storage).finish(Path(sweep).read_text("utf-8"))


def _plain(value: object) -> object:
    """Return a value from Python as a sweep's file spells it."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, type | FunctionType | Path):
        return format_option(value)
    raise PairsLitError(f"sweep must hold text, numbers, lists, mappings, classes or functions, got {value!r}.")
