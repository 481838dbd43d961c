"""``pairs-lit sweep``: many values and many seeds in few fits, a winner, and what fresh seeds say of it."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from lightning.pytorch import LightningModule, Trainer
from tqdm import tqdm

from pairs_lit.commands.fit import in_python, spelt
from pairs_lit.commands.options import OptionParser
from pairs_lit.commands.variants import Plan, fit_variants, fits_of, read_variants, with_common_recipes
from pairs_lit.environment import user_path
from pairs_lit.errors import PairsLitError, counted, notice
from pairs_lit.runs.folder import CONFIG, check_name, is_finished, name_from
from pairs_lit.runs.run import Run
from pairs_lit.runs.writing import write_text_durably
from pairs_lit.stopping import check_announced
from pairs_lit.sweeps.limits import describe_limits
from pairs_lit.sweeps.report import Confirmed, Sweep, write_report
from pairs_lit.sweeps.space import examples
from pairs_lit.sweeps.spec import Spec, read_spec
from pairs_lit.sweeps.trial import Trial, ranked, scores_of
from pairs_lit.training.clusters import check_alone
from pairs_lit.training.progress import EpochsDone

try:
    from pairs_lit.sweeps.figures import write_figures
    from pairs_lit.sweeps.study import Study, Taken
except ModuleNotFoundError as error:
    if error.name != "optuna":
        raise
    raise PairsLitError("pairs-lit sweep needs Optuna: pip install 'pairs-lit[sweep]'.") from error

_SPEC = "sweep.yaml"
_WORK = ".fits"
_PAUSE_SECONDS = 2.0
_FEW = 200
"""So many trials are all read and checked before the first one is trained; of more, each value is."""

_OF_THE_MACHINE = (
    "data.root",
    "rounds.threads",
    "trainer.accelerator",
    "trainer.default_root_dir",
    "trainer.devices",
    "trainer.num_nodes",
)
"""Options that may differ between processes of one sweep."""


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
    found = _Search(base, read_spec(options.sweep), name, options.storage).finish(options.sweep.read_text("utf-8"))
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
        KeyboardInterrupt: It was interrupted; what was saved is kept, and the same call goes on.
    """
    source = yaml.safe_dump(dict(config)) if isinstance(config, Mapping) else str(config)
    base = [f"--config={source}", *(f"--{option}={spelt(value)}" for option, value in (changes or {}).items())]
    with in_python():
        search = _Search(base, read_spec(sweep), name, storage)
        text = yaml.safe_dump(dict(sweep)) if isinstance(sweep, Mapping) else Path(sweep).read_text("utf-8")
        return search.finish(text)


@dataclass(frozen=True)
class _Fit:
    """Variants that train side by side."""

    plans: Sequence[Plan]
    folders: Sequence[Path]


class _Epochs(EpochsDone):
    """Counts the epochs of one fit, and tells other machines that this process is at work."""

    def __init__(self, bar: "tqdm[Any]", rounds: int, study: Study) -> None:
        super().__init__(bar, rounds)
        self._study = study

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count one epoch."""
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.is_global_zero:
            self._study.beat()


class _Search:
    """One process's work on a sweep.

    Args:
        base: The arguments of the fit that is varied.
        spec: What the sweep's file says.
        name: The sweep's name.
        storage: Where the study is kept; None: in the sweep's folder.
    """

    def __init__(self, base: Sequence[str], spec: Spec, name: str, storage: str | None) -> None:
        check_alone("sweep")
        self._base, self._spec, self._name = base, spec, check_name(name)
        self._storage = storage
        points = spec.points() or []
        tried = points if 0 < len(points) <= _FEW else list(examples(spec.space))
        (self._as_it_is, *plans) = read_variants(base, [self._changes({}), *map(self._changes, tried)])
        self._known = dict(zip(map(repr, tried), plans, strict=True))
        self._check_metric([self._as_it_is, *plans])
        root = self._as_it_is.options["trainer.default_root_dir"]
        self.folder = Path("." if root == "None" else str(root)) / "lightning_logs" / name
        self._show_plan([self._known[repr(values)] for values in points] if tried is points else None)

    def _changes(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return how a trial's fit differs from the configuration."""
        rounds = self._spec.rounds
        own = {"rounds.count": rounds.count, "rounds.seed": rounds.seed, "data.watch_test": False, "name": self._name}
        return {**values, **own, "print_stack": False}

    def _check_metric(self, plans: Sequence[Plan]) -> None:
        metric = self._spec.metric.removeprefix("val/")
        if metric.startswith("all_") and not any(metric in plan.measured for plan in plans):
            raise PairsLitError(f"metric is {self._spec.metric}, which is not measured: set data.all_pairs to [val].")
        for plan in plans:
            if metric not in plan.measured:
                raise PairsLitError(
                    f"metric is {self._spec.metric}, which this network does not have: use "
                    f"{', '.join(f'val/{name}' for name in plan.measured)}."
                )

    def _show_plan(self, plans: Sequence[Plan] | None) -> None:
        """Say how many fits there will be; None: nobody knows yet which values they have."""
        spec = self._spec
        for limit in describe_limits(spec):
            notice(limit)
        whole = f"{counted(spec.count, 'trial')} × {counted(spec.rounds.count, 'round')}"
        if plans is None:
            notice(f"{whole}, {counted(spec.batch, 'trial')} at a time.")
            return
        batches = [plans[start : start + spec.batch] for start in range(0, len(plans), spec.batch)]
        fits = sum(len(fits_of(batch)) for batch in batches)
        notice(f"{whole}: {fits} fit{'s' if fits > 1 else ''}.")

    @property
    def _digest(self) -> str:
        """What processes of one sweep must have in common."""
        options = {name: value for name, value in self._as_it_is.options.items() if name not in _OF_THE_MACHINE}
        spec = replace(self._spec, at_once=None)
        return hashlib.sha256(f"{json.dumps(options, sort_keys=True)} {spec}".encode()).hexdigest()[:32]

    def finish(self, text: str) -> Sweep:
        """Train what is not trained yet, and write what came of it beside the sweep's file, of this text."""
        self.folder.mkdir(parents=True, exist_ok=True)
        study = Study(self.folder, self._name, self._spec, self._digest, self._storage)
        try:
            write_text_durably(self.folder / _SPEC, text)
            with self._bar(study) as bar:
                self._search(study, bar)
                trials = ranked(study.finished(), is_loss=self._spec.is_loss)
                if not trials[0].scores:
                    raise PairsLitError(f"every round of every trial failed: nothing can be chosen ({self.folder}).")
                confirmed = self._confirm(trials[0], study, bar)
            found = Sweep(self.folder, self._spec, trials, confirmed)
            (best,) = read_variants(self._base, [trials[0].values])
            write_report(found, best.config)
            write_figures(found, study.optuna)
            return found
        finally:
            study.close()

    def _bar(self, study: Study) -> "tqdm[Any]":
        epochs = int(self._as_it_is.options["trainer.max_epochs"])
        confirm = 2 * self._spec.confirm.count if self._spec.confirm else 0
        each = self._spec.rounds.count * epochs
        total = self._spec.count * each + confirm * epochs
        done = len(study.finished()) * each
        return tqdm(
            total=total, initial=done, unit="epoch", unit_scale=True, dynamic_ncols=True, disable=None, desc=self._name
        )

    def _search(self, study: Study, bar: "tqdm[Any]") -> None:
        """Take trials until there are none, and wait for those of other processes."""
        waits = False
        while not study.is_over:
            taken = study.take()
            if taken:
                self._train(taken, study, bar)
                continue
            if not waits:
                notice("waiting for the trials of other processes.")
            waits = True
            check_announced()
            time.sleep(_PAUSE_SECONDS)
            study.beat()

    def _train(self, taken: Sequence[Taken], study: Study, bar: "tqdm[Any]") -> None:
        new = [each.values for each in taken if repr(each.values) not in self._known]
        self._known |= zip(map(repr, new), read_variants(self._base, list(map(self._changes, new))), strict=True)
        plans = with_common_recipes([self._known[repr(each.values)] for each in taken])
        folders = [self.folder / f"{each.number:04d}" for each in taken]
        for numbers in fits_of(plans):
            self._fit(_Fit([plans[n] for n in numbers], [folders[n] for n in numbers]), study, bar)
            for number in numbers:
                trial, folder = taken[number], folders[number]
                found = Run.load(folder)
                scores = scores_of(found, self._spec.metric)
                study.tell(Trial(trial.number, trial.values, scores, found.failed, folder, found.data))

    def _fit(self, fit: _Fit, study: Study, bar: "tqdm[Any]") -> None:
        """Train variants, unless all of them are finished; an interrupted fit goes on."""
        if all(map(_is_done, fit.plans, fit.folders)):
            return
        slices = len(fit.plans) * int(fit.plans[0].options["rounds.count"])
        fit_variants(self._base, fit.plans, fit.folders, self.folder / _WORK, [_Epochs(bar, slices, study)])
        check_announced()

    def _confirm(self, best: Trial, study: Study, bar: "tqdm[Any]") -> Confirmed | None:
        """Train the winner and the configuration as it is on fresh seeds."""
        seeds = self._spec.confirm
        if seeds is None:
            return None
        own: dict[str, object] = {"rounds.count": seeds.count, "rounds.seed": seeds.seed}
        own |= {"name": self._name, "print_stack": False}
        winner, baseline = read_variants(self._base, [{**best.values, **own}, own])
        plans = [winner] if winner.options == baseline.options else [winner, baseline]
        folders = [self.folder / name for name in ("confirmed-best", "confirmed-config")]
        with FileLock(self.folder / ".confirming.lock"):
            for numbers in fits_of(plans):
                self._fit(_Fit([plans[n] for n in numbers], [folders[n] for n in numbers]), study, bar)
        runs = [Run.load(folder) for folder in folders[: len(plans)]]
        measured = "digit_accuracy" if "digit" in self._spec.metric else "accuracy"
        whole = f"test_all_{measured}"
        metric = whole if "all_" in self._spec.metric and runs[0].values(whole) else f"test_{measured}"
        return Confirmed(metric, runs[0], runs[1] if len(runs) > 1 else None)


def _is_done(plan: Plan, folder: Path) -> bool:
    """Say whether a folder holds the finished run of a plan."""
    config = folder / CONFIG
    return is_finished(folder) and config.is_file() and config.read_text(encoding="utf-8") == plan.config
