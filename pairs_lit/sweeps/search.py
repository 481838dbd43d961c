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
from pairs_lit.runs.atomic_write import translate_os_errors
from pairs_lit.runs.metrics import Metric
from pairs_lit.runs.run_folder import (
    CONFIG_FILE,
    LAST_CHECKPOINT,
    SUMMARY_FILE,
    check_new_folder,
    check_run_name,
    is_finished,
)
from pairs_lit.sweeps.figures import FIGURE_FILES, write_figures
from pairs_lit.sweeps.limits import describe_limits
from pairs_lit.sweeps.records import has_all_results
from pairs_lit.sweeps.report import BEST_FILE, REPORT_FILE, TRIALS_FILE, Confirmation, Sweep, write_report
from pairs_lit.sweeps.search_space import Range, TrialValues, generate_examples, get_key
from pairs_lit.sweeps.spec import Spec
from pairs_lit.sweeps.study import FITS_FOLDER, ClaimedTrial, Study
from pairs_lit.sweeps.sweep_options import check_sweep_options
from pairs_lit.sweeps.trial import Trial, get_final_scores, rank_trials
from pairs_lit.system.console import print_notice
from pairs_lit.system.files import delete_file
from pairs_lit.system.signals import raise_if_end_announced
from pairs_lit.system.tracebacks import format_reason, locate_user_error
from pairs_lit.text import format_count
from pairs_lit.training.code_check import ChangedCodeError
from pairs_lit.training.progress import EpochCounter, can_show_bar, choose_bar_class
from pairs_lit.variants.fits import fit_variants, group_into_fits
from pairs_lit.variants.plans import VariantPlan, share_recipes
from pairs_lit.variants.reading import VariantReader
from pairs_lit.workers.cluster import check_single_process

_SPEC_FILE = "sweep.yaml"
_CONFIRMED_FOLDERS = ("confirmed-best", "confirmed-config")
_PRODUCT_PATTERNS = ("[0-9]" * 4, *_CONFIRMED_FOLDERS, TRIALS_FILE, REPORT_FILE, BEST_FILE, *FIGURE_FILES)
_NETWORK_OPTIONS = ("model.backbone", "model.head", "model.network")
_PAUSE_SECONDS = 2.0
_MAX_TRIALS_CHECKED_FIRST = 200
"""Up to this many trials are all checked before training starts; of more trials, only each single value is checked."""


_MACHINE_OPTIONS = (
    "data.root",
    "rounds.threads",
    "rounds.start_method",
    "trainer.accelerator",
    "trainer.default_root_dir",
    "trainer.devices",
    "trainer.num_nodes",
)
"""Options that may differ between the processes of a sweep, because they do not change the results."""


class _EpochCounter(EpochCounter):
    """Callback that counts the epochs of one fit and sends heartbeats to the study."""

    def __init__(self, bar: "tqdm[Any]", rounds: int, study: Study) -> None:
        super().__init__(bar, rounds)
        self._study = study

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count one epoch and send a heartbeat."""
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.is_global_zero:
            self._study.send_heartbeat()


class Search:
    """One process's work on a sweep.

    Args:
        base: The command-line arguments of the fit that the sweep varies.
        spec: The content of the sweep file.
        name: The sweep's name.
        storage: The URL of the study's storage, or None to keep the study in the sweep's folder.
    """

    def __init__(self, base: Sequence[str], spec: Spec, name: str, storage: str | None) -> None:
        check_single_process("sweep")
        check_sweep_options([arg for arg in base if not arg.startswith("--config=")], spec)
        self._base, self._spec, self._name = base, spec, check_run_name(name)
        self._storage = storage
        self._reader = VariantReader(base)
        points = spec.list_points() or []
        checked = points if 0 < len(points) <= _MAX_TRIALS_CHECKED_FIRST else list(generate_examples(spec.space))
        is_complete = self._has_all_results()
        if is_complete:  # the values were checked before they were trained
            checked = checked[:1]
        self._baseline_plan, *plans = self._build_plans({}, *checked)
        self._plans_by_key = dict(zip(map(get_key, checked), plans, strict=True))
        self._is_code_checked = False
        self._check_metric([self._baseline_plan, *plans])
        self._check_confirmation()
        _check_distinct_fits(checked, plans)
        self._notify_of_whole_ranges()
        self.folder = self._find_folder(self._baseline_plan)
        check_new_folder(self.folder)
        for limit in describe_limits(spec):
            print_notice(limit)
        if not is_complete:
            self._show_plan([self._plans_by_key[get_key(values)] for values in points] if checked is points else None)

    def _has_all_results(self) -> bool:
        """Return whether the sweep has the result of every trial, so that nothing is left to be trained or checked."""
        (plan,) = self._reader.try_variants([self._build_changes({})])
        if not isinstance(plan, VariantPlan):  # the error is reported together with those of the trials
            return False
        return has_all_results(
            self._find_folder(plan), self._name, self._spec, _get_result_options(plan), self._storage
        )

    def _find_folder(self, baseline: VariantPlan) -> Path:
        """Return the folder of the sweep."""
        root = baseline.options["trainer.default_root_dir"]
        return Path("." if root == "None" else str(root)) / "lightning_logs" / self._name

    def _build_plans(self, *points: TrialValues) -> list[VariantPlan]:
        """Return the plan of each trial; raise PairsLitError with the values of a trial that cannot be trained."""
        plans = self._reader.try_variants(list(map(self._build_changes, points)))
        failed = [(values, plan) for values, plan in zip(points, plans, strict=True) if isinstance(plan, Exception)]
        if failed:
            values, error = failed[0]
            count = f" ({len(failed)} of {format_count(len(points) - 1, 'trial')} cannot be trained)"
            raise PairsLitError(f"{_describe_error(values, error)}{count if len(failed) > 1 else ''}") from error
        return share_recipes([plan for plan in plans if isinstance(plan, VariantPlan)])

    def _build_changes(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return the options in which a trial's fit differs from the config."""
        seeds = {"rounds.count": self._spec.rounds.count, "rounds.seed": self._spec.rounds.seed}
        return {**values, **seeds, "data.watch_test": False, "name": self._name, "print_stack": False}

    def _check_metric(self, plans: Sequence[VariantPlan]) -> None:
        metric = self._spec.deciding_metric
        if metric.is_over_all_pairs and not any(metric.name in plan.metrics for plan in plans):
            raise PairsLitError(f"metric is {metric.tag}, which is not measured. Set data.all_pairs to [val].")
        for plan in plans:
            if metric.name not in plan.metrics:
                known = ", ".join(Metric(metric.split, name).tag for name in plan.metrics)
                raise PairsLitError(f"metric must be one of {known} for this network, got {metric.tag}.")

    def _check_confirmation(self) -> None:
        """Raise PairsLitError if the runs on fresh seeds would not measure the test accuracy that compares them."""
        if self._spec.confirm is not None:
            (plan,) = self._reader.read_variants([self._build_confirmation_changes({})])
            if plan.options["data.watch_test"] is False:
                raise PairsLitError(
                    "data.watch_test must be true or end in the config, got false: the confirmed runs are compared on "
                    "the test pairs. Change it, or remove confirm from the sweep file."
                )

    def _notify_of_whole_ranges(self) -> None:
        """Print a notice for ranges that are limited to whole numbers although their options accept fractions."""
        for option, dimension in self._spec.space.items():
            if isinstance(dimension, Range) and dimension.is_whole and self._accepts_fractions(option, dimension):
                low, high = dimension.low, dimension.high
                print_notice(
                    f"space.{option} tries only whole numbers from {low} to {high}. Write {float(low)} and "
                    f"{float(high)} to try fractions, too."
                )

    def _accepts_fractions(self, option: str, dimension: Range) -> bool:
        value = next(iter(self._plans_by_key.values())).options.get(option)
        return isinstance(value, float) and dimension.steps is None

    def _show_plan(self, plans: Sequence[VariantPlan] | None) -> None:
        """Print a notice on the number of trials and fits; the plans are None if the values are not known yet."""
        spec = self._spec
        size = f"{format_count(spec.num_trials, 'trial')} × {format_count(spec.rounds.count, 'round')}"
        if plans is None:
            print_notice(f"{size}, {format_count(spec.batch_size, 'trial')} at a time.")
            return
        batches = [plans[start : start + spec.batch_size] for start in range(0, len(plans), spec.batch_size)]
        fits = sum(len(group_into_fits(batch)) for batch in batches)
        print_notice(f"{size}: {fits} fit{'s' if fits > 1 else ''}.")

    def finish(self, text: str) -> Sweep:
        """Run the remaining trials, and write the report and a copy of the sweep file.

        Args:
            text: The text of the sweep file.
        """
        with Study(
            self.folder,
            self._name,
            self._spec,
            _get_result_options(self._baseline_plan),
            self._list_products(text),
            self._storage,
        ) as study:
            study.write_file(_SPEC_FILE, text)
            self._show_progress(study)
            with self._build_progress_bar(study) as bar:
                self._run_trials(study, bar)
                trials = self._rank_trials(study)
                with study.lock_report():
                    confirmed = self._confirm_winner(trials[0], study, bar)
                    finished = Sweep(self.folder, self._spec, trials, confirmed, tuple(study.describe_history()))
                    if study.is_latest:
                        self._write_results(finished, study)
                # fits that were not needed count as done, since a notebook shows a bar that is not full as an error
                bar.update(max(0, (bar.total or 0) - bar.n))
            return finished

    def _list_products(self, text: str) -> list[str]:
        """Return name patterns of the files that a sweep writes; an identical copy of the sweep file does not count."""
        copy = self.folder / _SPEC_FILE
        is_same = copy.is_file() and copy.read_text(encoding="utf-8-sig", errors="surrogateescape") == text
        return [*_PRODUCT_PATTERNS, *([] if is_same else [_SPEC_FILE])]

    def _show_progress(self, study: Study) -> None:
        done = len(study.list_finished_trials())
        if done:
            print_notice(f"{done} of {format_count(max(self._spec.num_trials, done), 'trial')} already finished.")
        for note in study.describe_history():
            print_notice(note)

    def _rank_trials(self, study: Study) -> list[Trial]:
        """Return the finished trials, the best first; raise PairsLitError if no trial has a result."""
        trials = rank_trials(study.list_finished_trials(), self._spec.deciding_metric)
        if not trials:
            raise PairsLitError(f"no trial could be trained, so there is no best one. {study.describe_history()[-1]}")
        if not trials[0].scores:
            raise PairsLitError(f"every round of every trial failed, so there is no best trial ({self.folder}).")
        return trials

    def _write_results(self, sweep: Sweep, study: Study) -> None:
        (best,) = self._reader.read_variants([sweep.best.values])
        write_report(sweep, best.config)
        write_figures(sweep, study.copy_trials)

    def _build_progress_bar(self, study: Study) -> "tqdm[Any]":
        epochs = int(self._baseline_plan.options["trainer.max_epochs"])
        confirm = 2 * self._spec.confirm.count if self._spec.confirm else 0
        epochs_per_trial = self._spec.rounds.count * epochs
        total = self._spec.num_trials * epochs_per_trial + confirm * epochs
        done = len(study.list_finished_trials()) * epochs_per_trial
        is_enabled = self._baseline_plan.options["trainer.enable_progress_bar"] is not False
        return choose_bar_class()(
            total=total,
            initial=done,
            unit="epoch",
            unit_scale=True,
            dynamic_ncols=True,
            disable=not (is_enabled and can_show_bar()),
            desc=self._name,
        )

    def _run_trials(self, study: Study, bar: "tqdm[Any]") -> None:
        """Train trials until none is left, then wait for those of other processes."""
        is_waiting = False
        while not study.is_over:
            taken = study.claim_trials()
            if taken:
                self._train_trials(taken, study, bar)
                continue
            if not is_waiting:
                print_notice("waiting for the trials of other processes.")
            is_waiting = True
            raise_if_end_announced()
            time.sleep(_PAUSE_SECONDS)
            study.send_heartbeat()

    def _train_trials(self, taken: Sequence[ClaimedTrial], study: Study, bar: "tqdm[Any]") -> None:
        trials = self._drop_untrainable(taken, study)
        plans = share_recipes([self._plans_by_key[get_key(trial.values)] for trial in trials])
        folders = [self.folder / f"{trial.number:04d}" for trial in trials]
        for numbers in group_into_fits(plans):
            with _report_failed_trials([trials[number] for number in numbers]):
                self._fit_plans(
                    [plans[number] for number in numbers], [folders[number] for number in numbers], study, bar
                )
            for number in numbers:
                trial, folder = trials[number], folders[number]
                run = Run.load(folder)
                scores = get_final_scores(run, self._spec.deciding_metric)
                study.report_result(Trial(trial.number, trial.values, scores, run.failed, folder, run.data))

    def _drop_untrainable(self, taken: Sequence[ClaimedTrial], study: Study) -> list[ClaimedTrial]:
        """Return the trials that can be trained; for the others, report the reason to the study and the user."""
        new = [trial for trial in taken if get_key(trial.values) not in self._plans_by_key]
        plans = self._reader.try_variants([self._build_changes(trial.values) for trial in new])
        given_up = set[int]()
        for trial, plan in zip(new, plans, strict=True):
            if isinstance(plan, VariantPlan):
                self._plans_by_key[get_key(trial.values)] = plan
                continue
            reason = _describe_error(trial.values, plan)
            print_notice(f"trial {trial.number} is left out: {reason}")
            study.report_failure(trial, reason)
            given_up.add(trial.number)
        return [trial for trial in taken if trial.number not in given_up]

    def _fit_plans(self, plans: Sequence[VariantPlan], folders: Sequence[Path], study: Study, bar: "tqdm[Any]") -> None:
        """Train variants in one fit, unless all of them are finished; an interrupted fit is resumed."""
        if all(map(_is_trained, plans, folders)):
            return
        self._check_code(study)
        for folder in folders:  # a finished run with other values must not be mistaken for the new one
            with translate_os_errors(folder / SUMMARY_FILE):
                delete_file(folder / SUMMARY_FILE)
        slices = len(plans) * int(plans[0].options["rounds.count"])
        fit_variants(self._base, plans, folders, self.folder / FITS_FOLDER, [_EpochCounter(bar, slices, study)])
        raise_if_end_announced()

    def _check_code(self, study: Study) -> None:
        """Raise PairsLitError if a network's code has changed since the finished trials; only the first call checks."""
        if self._is_code_checked:
            return
        self._is_code_checked = True
        trained = [trial for trial in study.list_finished_trials() if (trial.folder / LAST_CHECKPOINT).is_file()]
        for trial in {_get_network_key(trial.values): trial for trial in trained}.values():
            try:
                open_run(trial.folder)
            except ChangedCodeError as error:
                raise PairsLitError(
                    f"{error.difference} Finished trials cannot be compared with new ones. Restore the code, or give "
                    "another --name for a new sweep."
                ) from error

    def _build_confirmation_changes(self, values: TrialValues) -> dict[str, object]:
        """Return the options in which a run on fresh seeds differs from the config."""
        changes: dict[str, object] = {**values, "name": self._name, "print_stack": False}
        if self._spec.confirm is not None:
            changes |= {"rounds.count": self._spec.confirm.count, "rounds.seed": self._spec.confirm.seed}
        return changes

    def _confirm_winner(self, best: Trial, study: Study, bar: "tqdm[Any]") -> Confirmation | None:
        """Train the winner and the baseline on fresh seeds, or return None if the sweep file has no ``confirm``."""
        if self._spec.confirm is None:
            return None
        winner, baseline = self._reader.read_variants(
            [self._build_confirmation_changes(best.values), self._build_confirmation_changes({})]
        )
        plans = [winner] if winner.options == baseline.options else [winner, baseline]
        folders = [self.folder / name for name in _CONFIRMED_FOLDERS]
        for numbers in group_into_fits(plans):
            self._fit_plans([plans[number] for number in numbers], [folders[number] for number in numbers], study, bar)
        runs = [Run.load(folder) for folder in folders[: len(plans)]]
        decided_by = self._spec.deciding_metric
        name = "digit_accuracy" if decided_by.is_of_digits else "accuracy"
        sampled_metric, full_metric = Metric("test", name).column, Metric("test", f"all_{name}").column
        has_full_metric = decided_by.is_over_all_pairs and bool(runs[0].values(full_metric))
        metric = full_metric if has_full_metric else sampled_metric
        return Confirmation(metric, runs[0], runs[1] if len(runs) > 1 else None)


def _get_result_options(baseline: VariantPlan) -> dict[str, object]:
    """Return the baseline's options that influence the results; the space replaces some of them in each trial."""
    return {name: value for name, value in baseline.options.items() if name not in _MACHINE_OPTIONS}


def _get_network_key(values: TrialValues) -> str:
    """Return a key of the values that decide the classes of a trial's network."""
    return repr({option: value for option, value in values.items() if option.startswith(_NETWORK_OPTIONS)})


def _describe_error(values: TrialValues, error: Exception) -> str:
    """Return the trial's values and the reason why it cannot be trained."""
    label = ", ".join(f"{option} {json.dumps(value)}" for option, value in values.items()) or "the config"
    reason = str(error) if isinstance(error, PairsLitError) else f"{format_reason(error)} ({locate_user_error(error)})."
    return f"{label}: {reason}" if values else reason


def _check_distinct_fits(points: Sequence[TrialValues], plans: Sequence[VariantPlan]) -> None:
    """Raise PairsLitError if two trials have the same config, since the space has a value in two notations."""
    seen = dict[str, TrialValues]()
    for values, plan in zip(points, plans, strict=True):
        earlier = seen.setdefault(plan.config, values)
        if earlier is not values:
            first, second = json.dumps(dict(earlier)), json.dumps(dict(values))
            raise PairsLitError(f"space: {first} and {second} are the same fit. Keep one of them.")


@contextmanager
def _report_failed_trials(trials: Sequence[ClaimedTrial]) -> Iterator[None]:
    """Print a notice with the trials' values if an error is raised inside, and re-raise the error."""
    try:
        yield
    except Exception:
        values = "; ".join(json.dumps(dict(trial.values)) for trial in trials[:3]) + ("; …" if len(trials) > 3 else "")
        print_notice(f"an error ended the fit of {format_count(len(trials), 'trial')} ({values}).")
        raise


def _is_trained(plan: VariantPlan, folder: Path) -> bool:
    """Return whether a folder holds the finished run of a plan."""
    config = folder / CONFIG_FILE
    return is_finished(folder) and config.is_file() and config.read_text(encoding="utf-8-sig") == plan.config
