"""Pair comparison networks trained with many seeds side by side, on PyTorch Lightning.

Each network decides which of two handwritten digits is larger. The public names are loaded on first use, so importing
the package is fast.

Example:
    >>> import pairs_lit
    >>> run = pairs_lit.fit("configs/fc_aux.yaml", {"rounds.count": 3})  # doctest: +SKIP
    >>> run.summary["test_accuracy"].mean  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any
from warnings import warn

from pairs_lit.system.imports import pause_garbage_collection

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pairs_lit.analysis.comparison import Comparison as Comparison
    from pairs_lit.analysis.comparison import compare as compare
    from pairs_lit.analysis.inspection.numbers import Inspection as Inspection
    from pairs_lit.commands.apply import apply as apply
    from pairs_lit.commands.export import export as export
    from pairs_lit.commands.fit import fit as fit
    from pairs_lit.commands.inspect import inspect_run as inspect_run
    from pairs_lit.commands.sweep import sweep as sweep
    from pairs_lit.data.datamodule import PairDataModule as PairDataModule
    from pairs_lit.errors import PairsLitError as PairsLitError
    from pairs_lit.inference.open_run import open_run as open_run
    from pairs_lit.inference.predictions import ApplyResult as ApplyResult
    from pairs_lit.inference.run import Run as Run
    from pairs_lit.inference.trained_rounds import Predictions as Predictions
    from pairs_lit.inference.trained_rounds import TrainedRounds as TrainedRounds
    from pairs_lit.inference.user_images import ImageLike as ImageLike
    from pairs_lit.nn.pair_network import PairNetwork as PairNetwork
    from pairs_lit.nn.round_network import RoundNetwork as RoundNetwork
    from pairs_lit.stacking.stack import stack as stack
    from pairs_lit.statistics import Summary as Summary
    from pairs_lit.sweeps.report import Sweep as Sweep
    from pairs_lit.training.losses import PairLoss as PairLoss
    from pairs_lit.training.module import PairModule as PairModule
    from pairs_lit.training.results import Results as Results
    from pairs_lit.training.round_runner import RoundRunner as RoundRunner

# Backbones and heads are not exported here: saved configs would then name them by a class path other than their own.
_MODULES = {
    "analysis.comparison": ("Comparison", "compare"),
    "analysis.inspection.numbers": ("Inspection",),
    "commands.apply": ("apply",),
    "commands.export": ("export",),
    "commands.fit": ("fit",),
    "commands.inspect": ("inspect_run",),
    "commands.sweep": ("sweep",),
    "data.datamodule": ("PairDataModule",),
    "errors": ("PairsLitError",),
    "inference.open_run": ("open_run",),
    "inference.predictions": ("ApplyResult",),
    "inference.run": ("Run",),
    "inference.trained_rounds": ("Predictions", "TrainedRounds"),
    "inference.user_images": ("ImageLike",),
    "nn.pair_network": ("PairNetwork",),
    "nn.round_network": ("RoundNetwork",),
    "stacking.stack": ("stack",),
    "statistics": ("Summary",),
    "sweeps.report": ("Sweep",),
    "training.losses": ("PairLoss",),
    "training.module": ("PairModule",),
    "training.results": ("Results",),
    "training.round_runner": ("RoundRunner",),
}
_DEFINING_MODULES = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}

_DEPRECATED_NAMES = {
    "Answers": "Predictions",
    "Applied": "ApplyResult",
    "AveragedNetwork": "RoundNetwork",
    "Picture": "ImageLike",
    "Trained": "TrainedRounds",
}
"""Public names of the previous release, which still work but raise a DeprecationWarning."""

__all__ = [*sorted(_DEFINING_MODULES), "__version__"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any of the public objects
    if name in _DEPRECATED_NAMES:
        warn(f"pairs_lit.{name} is now pairs_lit.{_DEPRECATED_NAMES[name]}.", DeprecationWarning, stacklevel=2)
        name = _DEPRECATED_NAMES[name]
    if name not in _DEFINING_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with pause_garbage_collection():
        return getattr(import_module(_DEFINING_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
