"""Which of two handwritten digits is larger? Many seeds of one network, trained side by side.

The public names are loaded when they are first used, so that importing the package takes no time.

Example:
    >>> import pairs_lit
    >>> run = pairs_lit.fit("configs/fc_aux.yaml", {"rounds.count": 3})  # doctest: +SKIP
    >>> run.summary["test_accuracy"].mean  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pairs_lit.analysis.comparison import Comparison as Comparison
    from pairs_lit.analysis.comparison import compare as compare
    from pairs_lit.analysis.inspection import Inspection as Inspection
    from pairs_lit.commands.export import export as export
    from pairs_lit.commands.fit import fit as fit
    from pairs_lit.commands.inspect import inspect_run as inspect_run
    from pairs_lit.commands.opening import open_run as open_run
    from pairs_lit.commands.sweep import sweep as sweep
    from pairs_lit.data.datamodule import PairDataModule as PairDataModule
    from pairs_lit.errors import PairsLitError as PairsLitError
    from pairs_lit.runs.run import Run as Run
    from pairs_lit.stacking.stack import stack as stack
    from pairs_lit.statistics import Summary as Summary
    from pairs_lit.sweeps.report import Sweep as Sweep
    from pairs_lit.trained.applying import Applied as Applied
    from pairs_lit.trained.applying import apply as apply
    from pairs_lit.trained.network import AveragedNetwork as AveragedNetwork
    from pairs_lit.trained.network import PairNetwork as PairNetwork
    from pairs_lit.trained.pictures import Picture as Picture
    from pairs_lit.trained.rounds import Answers as Answers
    from pairs_lit.trained.rounds import Trained as Trained
    from pairs_lit.training.losses import PairLoss as PairLoss
    from pairs_lit.training.module import PairModule as PairModule
    from pairs_lit.training.results import Results as Results
    from pairs_lit.training.rounds import RoundRunner as RoundRunner

# backbones and heads are not among them: configs would then be written with another class path than they are read
_ROOMS = {
    "analysis.comparison": ("Comparison", "compare"),
    "analysis.inspection": ("Inspection",),
    "commands.export": ("export",),
    "commands.fit": ("fit",),
    "commands.inspect": ("inspect_run",),
    "commands.opening": ("open_run",),
    "commands.sweep": ("sweep",),
    "data.datamodule": ("PairDataModule",),
    "errors": ("PairsLitError",),
    "runs.run": ("Run",),
    "stacking.stack": ("stack",),
    "statistics": ("Summary",),
    "sweeps.report": ("Sweep",),
    "trained.applying": ("Applied", "apply"),
    "trained.network": ("AveragedNetwork", "PairNetwork"),
    "trained.pictures": ("Picture",),
    "trained.rounds": ("Answers", "Trained"),
    "training.losses": ("PairLoss",),
    "training.module": ("PairModule",),
    "training.results": ("Results",),
    "training.rounds": ("RoundRunner",),
}
_HOMES = {name: f"{__name__}.{room}" for room, names in _ROOMS.items() for name in names}

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any of the public names
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
