"""Fits of variants of one configuration: grouping, and training side by side."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lightning.pytorch import Callback

from pairs_lit.configuration.cli import PairsCLI, run_lightning_command
from pairs_lit.nn.pair_stack import PairStack
from pairs_lit.runs.run_folder import CHECKPOINTS_FOLDER, LAST_CHECKPOINT
from pairs_lit.stacking.looped import LoopedRounds
from pairs_lit.system.files import replace_file, try_delete_folder
from pairs_lit.training.results import Results
from pairs_lit.training.round_runner import RoundRunner
from pairs_lit.variants.module import VariantsModule
from pairs_lit.variants.plans import NETWORK_PREFIXES, VariantPlan
from pairs_lit.variants.reading import build_fit_arguments, limit_to_one_round
from pairs_lit.variants.runs import RunTarget, VariantRunWriter


def group_into_fits(plans: Sequence[VariantPlan]) -> list[list[int]]:
    """Group plans into fits of variants that train side by side; return the numbers of the plans in each fit."""
    groups = dict[str, list[int]]()
    for number, plan in enumerate(plans):
        key = f"alone {number}" if plan.has_user_callbacks else plan.group_key
        groups.setdefault(key, []).append(number)
    return [part for group in groups.values() for part in _split_unstackable(group, plans)]


def _split_unstackable(group: Sequence[int], plans: Sequence[VariantPlan]) -> list[list[int]]:
    """Return a group unchanged, or one group for each plan if their networks cannot be stacked."""
    architectures = [plans[number].variant.architecture for number in group]
    networks = {
        json.dumps([option for option in plans[number].options.items() if option[0].startswith(NETWORK_PREFIXES)])
        for number in group
    }
    if len(networks) > 1:
        stack = PairStack.build(architectures[0], [0] * len(group), architectures)
        if any(isinstance(part, LoopedRounds) for part in stack.network.modules()):
            return [[number] for number in group]
    return [list(group)]


def fit_variants(
    base: Sequence[str],
    plans: Sequence[VariantPlan],
    folders: Sequence[Path],
    work: Path,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train variants side by side and write a run folder for each; an interrupted fit of them is resumed.

    Args:
        base: The command-line arguments of the base configuration.
        plans: The variants, a group of :func:`group_into_fits`.
        folders: The run folders of the variants.
        work: The folder for temporary files, from which an interrupted fit is resumed.
        callbacks: Additional callbacks for the trainer.
    """
    pairs = zip(folders, plans, strict=True)
    runs = [RunTarget(folder, plan.config, plan.options, plan.variant) for folder, plan in pairs]

    class Fitting(_VariantsCLI):
        targets = runs

    configs = json.dumps([plan.config for plan in plans])
    fit_folder = work / hashlib.sha256(configs.encode()).hexdigest()[:16]
    options: dict[str, object] = {"trainer.default_root_dir": fit_folder, "trainer.enable_progress_bar": False}
    checkpoints = sorted(fit_folder.glob(f"lightning_logs/*/*/{LAST_CHECKPOINT}"))
    options |= {"ckpt_path": checkpoints[-1]} if checkpoints else {}
    run_lightning_command("fit", build_fit_arguments(base, {**plans[0].changes, **options}), callbacks, kind=Fitting)
    if plans[0].has_user_callbacks:
        for path in fit_folder.glob(f"lightning_logs/*/*/{CHECKPOINTS_FOLDER}/*"):  # written by the user's callbacks
            if path.name != Path(LAST_CHECKPOINT).name:
                replace_file(path, folders[0] / CHECKPOINTS_FOLDER / path.name)
    try_delete_folder(fit_folder)
    with suppress(OSError):  # it is not empty while other fits are running
        work.rmdir()


class _VariantsCLI(PairsCLI):
    """Command line of a fit that trains the rounds of several variants."""

    targets: Sequence[RunTarget]

    def build_objects(self) -> None:
        """Build the module, the data and the trainer of all variants."""
        config, one_round = self.config.fit, limit_to_one_round(self.config)
        self.config_init = self.parser.instantiate_classes(one_round)
        parts = self.config_init.fit
        parts.rounds = RoundRunner(**config.rounds.as_dict())
        parts.model = VariantsModule(
            [target.variant for target in self.targets], parts.rounds.seeds, config.model.stack_size
        )
        parts.data.rounds, parts.rounds.seeds = parts.model.rounds, parts.model.rounds.seeds
        self.datamodule, self.model = parts.data, parts.model
        self.trainer = self.instantiate_trainer()

    def build_results(self, runner: RoundRunner) -> Results:
        """Build the callback that writes the run folders of the variants."""
        return VariantRunWriter(runner, self.targets)
