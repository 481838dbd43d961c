"""Search of a sweep: train trials in as few fits as possible, choose the winner, and confirm it on fresh seeds."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from tqdm import tqdm

from pairs_lit.errors import PairsLitError
from pairs_lit.inference.open_run import open_run
from pairs_lit.inference.run import Run
from pairs_lit.runs.metrics import Metric
from pairs_lit.runs.run_folder import CONFIG, LAST, SUMMARY, check_name, is_finished
from pairs_lit.sweeps.figures import FIGURES, write_figures
from pairs_lit.sweeps.limits import describe_limits
from pairs_lit.sweeps.report import BEST, REPORT, TRIALS, Confirmed, Sweep, write_report
from pairs_lit.sweeps.search_space import Range, Values, examples, key_of
from pairs_lit.sweeps.spec import Spec
from pairs_lit.sweeps.study import WORK, Study, Taken
from pairs_lit.sweeps.sweep_options import check_options
from pairs_lit.sweeps.trial import Trial, ranked, scores_of
from pairs_lit.system.console import notice
from pairs_lit.system.signals import check_announced
from pairs_lit.system.tracebacks import own_place_of, reason_of
from pairs_lit.text import counted
from pairs_lit.training.code_check import ChangedCodeError
from pairs_lit.training.progress import EpochsDone
from pairs_lit.variants.fits import Plan, fit_variants, fits_of, read_variants, try_variants, with_common_recipes
from pairs_lit.workers.cluster import check_alone

_SPEC = "sweep.yaml"
_CONFIRMED = ("confirmed-best", "confirmed-config")
_PRODUCTS = ("[0-9]" * 4, *_CONFIRMED, TRIALS, REPORT, BEST, *FIGURES)
_NETWORK = ("model.backbone", "model.head", "model.network")
_PAUSE_SECONDS = 2.0
_FEW = 200
"""Up to this many trials are all checked before training starts; of more trials, only each single value is checked."""


_OF_THE_MACHINE = (
    "data.root",
    "rounds.threads",
    "trainer.accelerator",
    "trainer.default_root_dir",
    "trainer.devices",
    "trainer.num_nodes",
)
"""Options that may differ between the processes of a sweep, because they do not change the results."""


class _Epochs(EpochsDone):
    """Callback that counts the epochs of one fit and sends heartbeats to the study."""

    def __init__(self, bar: "tqdm[Any]", rounds: int, study: Study) -> None:
        super().__init__(bar, rounds)
        self._study = study

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count one epoch and send a heartbeat."""
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.is_global_zero:
            self._study.beat()


class Search:
    """One process's work on a sweep.

    Args:
        base: The command-line arguments of the fit that the sweep varies.
        spec: The content of the sweep file.
        name: The sweep's name.
        storage: The URL of the study's storage, or None to keep the study in the sweep's folder.
    """

    def __init__(self, base: Sequence[str], spec: Spec, name: str, storage: str | None) -> None:
        check_alone("sweep")
        check_options([arg for arg in base if not arg.startswith("--config=")], spec)
        self._base, self._spec, self._name = base, spec, check_name(name)
        self._storage = storage
        points = spec.points() or []
        checked = points if 0 < len(points) <= _FEW else list(examples(spec.space))
        self._as_it_is, *plans = self._read({}, *checked)
        self._known = dict(zip(map(key_of, checked), plans, strict=True))
        self._is_code_checked = False
        self._check_metric([self._as_it_is, *plans])
        self._check_confirmation()
        _check_different(checked, plans)
        self._show_whole_numbers()
        root = self._as_it_is.options["trainer.default_root_dir"]
        self.folder = Path("." if root == "None" else str(root)) / "lightning_logs" / name
        self._show_plan([self._known[key_of(values)] for values in points] if checked is points else None)

    def _read(self, *points: Values) -> list[Plan]:
        """Return the plan of each trial; raise PairsLitError with the values of a trial that cannot be trained."""
        plans = try_variants(self._base, list(map(self._changes, points)))
        failed = [(values, plan) for values, plan in zip(points, plans, strict=True) if isinstance(plan, Exception)]
        if failed:
            values, error = failed[0]
            count = f" ({len(failed)} of {counted(len(points) - 1, 'trial')} cannot be trained)"
            raise PairsLitError(f"{_explain(values, error)}{count if len(failed) > 1 else ''}") from error
        return with_common_recipes([plan for plan in plans if isinstance(plan, Plan)])

    def _changes(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return the options in which a trial's fit differs from the config."""
        seeds = {"rounds.count": self._spec.rounds.count, "rounds.seed": self._spec.rounds.seed}
        return {**values, **seeds, "data.watch_test": False, "name": self._name, "print_stack": False}

    def _check_metric(self, plans: Sequence[Plan]) -> None:
        metric = self._spec.decided_by
        if metric.is_over_all_pairs and not any(metric.name in plan.measured for plan in plans):
            raise PairsLitError(f"metric is {metric.tag}, which is not measured. Set data.all_pairs to [val].")
        for plan in plans:
            if metric.name not in plan.measured:
                known = ", ".join(Metric(metric.split, name).tag for name in plan.measured)
                raise PairsLitError(f"metric must be one of {known} for this network, got {metric.tag}.")

    def _check_confirmation(self) -> None:
        """Raise PairsLitError if the runs on fresh seeds would not measure the test accuracy that compares them."""
        if self._spec.confirm is not None:
            (plan,) = read_variants(self._base, [self._confirming({})])
            if plan.options["data.watch_test"] is False:
                raise PairsLitError(
                    "data.watch_test must be true or end in the config, got false: the confirmed runs are compared on "
                    "the test pairs. Change it, or remove confirm from the sweep file."
                )

    def _show_whole_numbers(self) -> None:
        """Print a notice for ranges that are limited to whole numbers although their options accept fractions."""
        for option, dimension in self._spec.space.items():
            if isinstance(dimension, Range) and dimension.is_whole and self._takes_fractions(option, dimension):
                low, high = dimension.low, dimension.high
                notice(
                    f"space.{option} tries only whole numbers from {low} to {high}. Write {float(low)} and "
                    f"{float(high)} to try fractions, too."
                )

    def _takes_fractions(self, option: str, dimension: Range) -> bool:
        value = next(iter(self._known.values())).options.get(option)
        return isinstance(value, float) and dimension.steps is None

    def _show_plan(self, plans: Sequence[Plan] | None) -> None:
        """Print a notice on the number of trials and fits; the plans are None if the values are not known yet."""
        spec = self._spec
        for limit in describe_limits(spec):
            notice(limit)
        size = f"{counted(spec.count, 'trial')} × {counted(spec.rounds.count, 'round')}"
        if plans is None:
            notice(f"{size}, {counted(spec.batch, 'trial')} at a time.")
            return
        batches = [plans[start : start + spec.batch] for start in range(0, len(plans), spec.batch)]
        fits = sum(len(fits_of(batch)) for batch in batches)
        notice(f"{size}: {fits} fit{'s' if fits > 1 else ''}.")

    @property
    def _options(self) -> dict[str, object]:
        """The baseline's options that influence the results; the space replaces some of them in each trial."""
        return {name: value for name, value in self._as_it_is.options.items() if name not in _OF_THE_MACHINE}

    def finish(self, text: str) -> Sweep:
        """Run the remaining trials, and write the report and a copy of the sweep file.

        Args:
            text: The text of the sweep file.
        """
        with Study(self.folder, self._name, self._spec, self._options, self._products(text), self._storage) as study:
            study.write(_SPEC, text)
            self._show_progress(study)
            with self._bar(study) as bar:
                self._search(study, bar)
                trials = self._ranked(study)
                with study.finishing():
                    confirmed = self._confirm(trials[0], study, bar)
                    finished = Sweep(self.folder, self._spec, trials, confirmed, tuple(study.notes()))
                    if study.is_latest:
                        self._write(finished, study)
            return finished

    def _products(self, text: str) -> list[str]:
        """Return name patterns of the files that a sweep writes; an identical copy of the sweep file does not count."""
        copy = self.folder / _SPEC
        is_same = copy.is_file() and copy.read_bytes() == text.encode("utf-8", "surrogateescape")
        return [*_PRODUCTS, *([] if is_same else [_SPEC])]

    def _show_progress(self, study: Study) -> None:
        done = len(study.finished())
        if done:
            notice(f"{done} of {counted(max(self._spec.count, done), 'trial')} already finished.")
        for note in study.notes():
            notice(note)

    def _ranked(self, study: Study) -> list[Trial]:
        """Return the finished trials, the best first; raise PairsLitError if no trial has a result."""
        trials = ranked(study.finished(), self._spec.decided_by)
        if not trials:
            raise PairsLitError(f"no trial could be trained, so there is no best one. {study.notes()[-1]}")
        if not trials[0].scores:
            raise PairsLitError(f"every round of every trial failed, so there is no best trial ({self.folder}).")
        return trials

    def _write(self, sweep: Sweep, study: Study) -> None:
        (best,) = read_variants(self._base, [sweep.best.values])
        write_report(sweep, best.config)
        write_figures(sweep, study.copy_of)

    def _bar(self, study: Study) -> "tqdm[Any]":
        epochs = int(self._as_it_is.options["trainer.max_epochs"])
        confirm = 2 * self._spec.confirm.count if self._spec.confirm else 0
        epochs_per_trial = self._spec.rounds.count * epochs
        total = self._spec.count * epochs_per_trial + confirm * epochs
        done = len(study.finished()) * epochs_per_trial
        is_hidden = self._as_it_is.options["trainer.enable_progress_bar"] is False or None
        return tqdm(
            total=total,
            initial=done,
            unit="epoch",
            unit_scale=True,
            dynamic_ncols=True,
            disable=is_hidden,
            desc=self._name,
        )

    def _search(self, study: Study, bar: "tqdm[Any]") -> None:
        """Train trials until none is left, then wait for those of other processes."""
        is_waiting = False
        while not study.is_over:
            taken = study.take()
            if taken:
                self._train(taken, study, bar)
                continue
            if not is_waiting:
                notice("waiting for the trials of other processes.")
            is_waiting = True
            check_announced()
            time.sleep(_PAUSE_SECONDS)
            study.beat()

    def _train(self, taken: Sequence[Taken], study: Study, bar: "tqdm[Any]") -> None:
        trials = self._readable(taken, study)
        plans = with_common_recipes([self._known[key_of(trial.values)] for trial in trials])
        folders = [self.folder / f"{trial.number:04d}" for trial in trials]
        for numbers in fits_of(plans):
            with _naming([trials[number] for number in numbers]):
                self._fit([plans[number] for number in numbers], [folders[number] for number in numbers], study, bar)
            for number in numbers:
                trial, folder = trials[number], folders[number]
                run = Run.load(folder)
                scores = scores_of(run, self._spec.decided_by)
                study.tell(Trial(trial.number, trial.values, scores, run.failed, folder, run.data))

    def _readable(self, taken: Sequence[Taken], study: Study) -> list[Taken]:
        """Return the trials that can be trained; for the others, report the reason to the study and the user."""
        new = [trial for trial in taken if key_of(trial.values) not in self._known]
        plans = try_variants(self._base, [self._changes(trial.values) for trial in new])
        given_up = set[int]()
        for trial, plan in zip(new, plans, strict=True):
            if isinstance(plan, Plan):
                self._known[key_of(trial.values)] = plan
                continue
            reason = _explain(trial.values, plan)
            notice(f"trial {trial.number} is left out: {reason}")
            study.give_up(trial, reason)
            given_up.add(trial.number)
        return [trial for trial in taken if trial.number not in given_up]

    def _fit(self, plans: Sequence[Plan], folders: Sequence[Path], study: Study, bar: "tqdm[Any]") -> None:
        """Train variants in one fit, unless all of them are finished; an interrupted fit is resumed."""
        if all(map(_is_done, plans, folders)):
            return
        self._check_code(study)
        for folder in folders:  # a finished run with other values must not be mistaken for the new one
            (folder / SUMMARY).unlink(missing_ok=True)
        slices = len(plans) * int(plans[0].options["rounds.count"])
        fit_variants(self._base, plans, folders, self.folder / WORK, [_Epochs(bar, slices, study)])
        check_announced()

    def _check_code(self, study: Study) -> None:
        """Raise PairsLitError if a network's code has changed since the finished trials; only the first call checks."""
        if self._is_code_checked:
            return
        self._is_code_checked = True
        trained = [trial for trial in study.finished() if (trial.folder / LAST).is_file()]
        for trial in {_network_of(trial.values): trial for trial in trained}.values():
            try:
                open_run(trial.folder)
            except ChangedCodeError as error:
                raise PairsLitError(
                    f"{error.difference} Finished trials cannot be compared with new ones. Restore the code, or give "
                    "another --name for a new sweep."
                ) from error

    def _confirming(self, values: Values) -> dict[str, object]:
        """Return the options in which a run on fresh seeds differs from the config."""
        changes: dict[str, object] = {**values, "name": self._name, "print_stack": False}
        if self._spec.confirm is not None:
            changes |= {"rounds.count": self._spec.confirm.count, "rounds.seed": self._spec.confirm.seed}
        return changes

    def _confirm(self, best: Trial, study: Study, bar: "tqdm[Any]") -> Confirmed | None:
        """Train the winner and the baseline on fresh seeds, or return None if the sweep file has no ``confirm``."""
        if self._spec.confirm is None:
            return None
        winner, baseline = read_variants(self._base, [self._confirming(best.values), self._confirming({})])
        plans = [winner] if winner.options == baseline.options else [winner, baseline]
        folders = [self.folder / name for name in _CONFIRMED]
        for numbers in fits_of(plans):
            self._fit([plans[number] for number in numbers], [folders[number] for number in numbers], study, bar)
        runs = [Run.load(folder) for folder in folders[: len(plans)]]
        decided_by = self._spec.decided_by
        name = "digit_accuracy" if decided_by.is_of_digits else "accuracy"
        sampled_metric, full_metric = Metric("test", name).column, Metric("test", f"all_{name}").column
        has_full_metric = decided_by.is_over_all_pairs and bool(runs[0].values(full_metric))
        metric = full_metric if has_full_metric else sampled_metric
        return Confirmed(metric, runs[0], runs[1] if len(runs) > 1 else None)


def _network_of(values: Values) -> str:
    """Return a key of the values that decide the classes of a trial's network."""
    return repr({option: value for option, value in values.items() if option.startswith(_NETWORK)})


def _explain(values: Values, error: Exception) -> str:
    """Return the trial's values and the reason why it cannot be trained."""
    label = ", ".join(f"{option} {json.dumps(value)}" for option, value in values.items()) or "the config"
    reason = str(error) if isinstance(error, PairsLitError) else f"{reason_of(error)} ({own_place_of(error)})."
    return f"{label}: {reason}" if values else reason


def _check_different(points: Sequence[Values], plans: Sequence[Plan]) -> None:
    """Raise PairsLitError if two trials have the same config, since the space has a value in two notations."""
    seen = dict[str, Values]()
    for values, plan in zip(points, plans, strict=True):
        earlier = seen.setdefault(plan.config, values)
        if earlier is not values:
            first, second = json.dumps(dict(earlier)), json.dumps(dict(values))
            raise PairsLitError(f"space: {first} and {second} are the same fit. Keep one of them.")


@contextmanager
def _naming(trials: Sequence[Taken]) -> Iterator[None]:
    """Print a notice with the trials' values if an error is raised inside, and re-raise the error."""
    try:
        yield
    except Exception:
        values = "; ".join(json.dumps(dict(trial.values)) for trial in trials[:3]) + ("; …" if len(trials) > 3 else "")
        notice(f"an error ended the fit of {counted(len(trials), 'trial')} ({values}).")
        raise


def _is_done(plan: Plan, folder: Path) -> bool:
    """Return whether a folder holds the finished run of a plan."""
    config = folder / CONFIG
    return is_finished(folder) and config.is_file() and config.read_text(encoding="utf-8") == plan.config
