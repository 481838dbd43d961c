"""Detection of network code that has changed since a checkpoint was saved.

A checkpoint records what its networks compute for a few fixed images. When it is loaded, the networks compute the same
values again. Only different values are an error, since code may be rewritten without an effect on what it computes. The
checkpoint also holds digests of the torch calls and of the user's files, from which messages say what has changed.
"""

import hashlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from math import isfinite
from typing import Any, cast

import torch
from torch import Tensor, nn

from pairs_lit import __version__
from pairs_lit.checkpoints.files import METADATA_KEY, NETWORK_KEY
from pairs_lit.checkpoints.match import check_metadata, find_first_difference, shorten
from pairs_lit.checkpoints.schema import StateSchema, check_part, check_schema, matches_schema
from pairs_lit.errors import PairsLitError
from pairs_lit.nn.architecture import Architecture
from pairs_lit.nn.code_files import CodeFiles
from pairs_lit.nn.pair_stack import PairStack
from pairs_lit.rounds import Rounds
from pairs_lit.stacking.looped import LoopedCopies
from pairs_lit.stacking.recording.calls import compute_call_digest
from pairs_lit.system.console import print_notice
from pairs_lit.training.behaviour import (
    VALUE_RANGES,
    FixedPairs,
    LossFunction,
    Observation,
    find_difference,
    get_precision,
    observe_stack,
)
from pairs_lit.training.recipes import Variant

CODE_KEY = "code"
"""The key under which a checkpoint records what its networks compute; earlier releases did not write it."""

_MODES = {"evaluation": False, "training": True}
"""The modes in which networks are observed; the values are those of ``nn.Module.training``."""
_OBSERVED_NAMES = ("output", "digit_logits", "losses", "gradients")
_LOSS_NAMES = ("losses", "gradients")
_DESCRIPTIONS = {
    "output": "the outputs",
    "digit_logits": "the digit logits",
    "losses": "the losses",
    "gradients": "the gradients",
}


class ChangedCodeError(PairsLitError):
    """Error: the code of a network has changed since its fit.

    Args:
        difference: A sentence that describes the difference.
        option: The option with which the command continues anyway.
    """

    def __init__(self, difference: str, option: str) -> None:
        super().__init__(
            f"{difference} Restore the code that the checkpoint was trained with, or train again; {option} continues "
            "anyway and adds a note to its results."
        )
        self.difference = difference


class CodeCheck:
    """Records what the networks of a module compute and compares it with the record in a checkpoint.

    Args:
        variants: The variants that are trained; all have the same seeds.
        rounds: The rounds of all variants.
        stacks: The stacks.
        losses: The loss of each stack.
        repeats: Whether the networks are deterministic in evaluation mode; if not, nothing is recorded.
        draws: Whether the networks draw random numbers in evaluation mode.

    Attributes:
        is_change_allowed: Whether to continue although the code has changed.
        option: The option that sets ``may_change``, for messages.
        has_changed: Whether the code has changed since the fit that wrote the loaded checkpoint.
        changes: The numbers of the epochs after which a fit was resumed with changed code.
    """

    def __init__(
        self,
        variants: Sequence[Variant],
        rounds: Rounds,
        stacks: Sequence[PairStack],
        losses: Sequence[LossFunction],
        *,
        repeats: bool,
        draws: bool,
    ) -> None:
        self._variants, self._rounds, self._is_repeatable, self._is_random_in_evaluation = (
            variants,
            rounds,
            repeats,
            draws,
        )
        self._stacks = list(stacks)
        self._losses = losses
        first = variants[0].architecture
        self._files = CodeFiles.find(
            [first.backbone, first.head, first.network, *self._stacks[0].module_classes, type(variants[0].loss)]
        )
        self.is_change_allowed = False
        self.option = "--allow_changed_code true"
        self.has_changed = False
        self.changes: list[int] = []

    @property
    def code_location(self) -> str:
        """The names of the files with the network's code, or its class path if no file belongs to the user."""
        if self._files.part_file_names:
            return self._files.part_file_names
        kind = self._stacks[0].module_classes[0]
        return f"{kind.__module__}.{kind.__qualname__}"

    @property
    def note(self) -> str:
        """The note that all results must carry if the code has changed, or "" if it has not."""
        epochs = ", ".join(map(str, self.changes))
        during = f"the network's code changed during the fit (after epoch {epochs})" if epochs else ""
        since = "the network's code has changed since the fit" if self.has_changed else ""
        return "; ".join(filter(None, [during, since]))

    @property
    def changed_code_hint(self) -> str:
        """Advice for a difference that changed code may explain, or "" if no file belongs to the user."""
        return f"{self.changed_files_hint}, or continue with {self.option}" if self._files.part_file_names else ""

    @property
    def changed_files_hint(self) -> str:
        """The same advice for a difference with which the command cannot continue."""
        names = self._files.part_file_names
        return f"; if {names} changed since the fit, restore it" if names else ""

    @cached_property
    def _call_digests(self) -> list[list[str]]:
        """The digests of the torch calls of each variant's first network, in each mode."""
        architectures = [variant.architecture for variant in self._variants]
        distinct = {id(architecture): architecture for architecture in architectures}  # most variants share theirs
        digests = {key: _compute_call_digests(each, self._rounds.seeds[0]) for key, each in distinct.items()}
        return [digests[id(architecture)] for architecture in architectures]

    @property
    def _environment(self) -> dict[str, str]:
        """The versions and the machine; digests of calls and torch's random numbers may depend on them."""
        device = next((value.device.type for value in self._stacks[0].network.parameters()), "cpu")
        return {"torch": str(torch.__version__), "pairs_lit": __version__, "machine": f"{platform.machine()} {device}"}

    def observe_stacks(self, stacks: Iterable[int], normalise: str) -> dict[int, dict[str, Observation]]:
        """Return what some of the stacks compute for fixed pairs in each mode, by the number of the stack.

        Args:
            stacks: The numbers of the stacks.
            normalise: How the images of the rounds are normalised.
        """
        first = self._variants[0].architecture
        pairs = FixedPairs(first.image_size, normalise, first.classes)
        return {number: self._observe_modes(number, pairs) for number in stacks} if self._is_repeatable else {}

    def _observe_modes(self, number: int, pairs: FixedPairs) -> dict[str, Observation]:
        """Return what one stack computes for fixed pairs in each mode."""
        rounds = self._rounds.stacks[number]
        stack, loss, count = self._stacks[number], self._losses[number], rounds.stop - rounds.start
        return {name: observe_stack(stack, loss, count, pairs, training=mode) for name, mode in _MODES.items()}

    def build_record(self, observed: Mapping[int, Mapping[str, Observation]]) -> dict[str, Any]:
        """Build the record for a checkpoint from what :meth:`observe_stacks` returned for all stacks."""
        numbers = {mode: _join_observations([observed[number][mode] for number in sorted(observed)]) for mode in _MODES}
        return {
            **numbers,
            "calls": self._call_digests,
            "losses": [_hash_text(repr(variant.loss)) for variant in self._variants],
            "files": dict(self._files.digests),
            "environment": self._environment,
            "precision": get_precision(self._stacks[0].network),
            "changes": list(self.changes),
        }

    def check(self, saved: object, normalise: object, epoch: int, *, stage: str | None) -> None:
        """Raise PairsLitError if the networks, with the checkpoint's weights, do not compute what they did in the fit.

        Args:
            saved: The record in the checkpoint.
            normalise: How the images of the checkpoint's run are normalised.
            epoch: The number of the checkpoint's last epoch.
            stage: What it is loaded for: fit, validate, test or predict, or None for networks without a trainer.
        """
        record, variants = cast(dict[str, Any], saved), len(self._variants)
        is_known = isinstance(normalise, str) and normalise in VALUE_RANGES
        check_part("record of the code is", is_known and is_valid_record(saved, len(self._rounds.seeds), variants))
        self.changes = sorted({*record["changes"], *self.changes})
        now = self.build_record(self.observe_stacks(range(len(self._stacks)), str(normalise)))
        change = self._find_change(record, now, stage)
        if change is not None:
            self.report_change(change, record["files"], epoch, stage)
        elif record["environment"] == now["environment"] and record["calls"] != now["calls"]:
            print_notice(
                f"{self.code_location} has changed since the fit, but its networks compute the same for a few "
                "fixed images."
            )

    def _find_change(self, saved: Mapping[str, Any], now: Mapping[str, Any], stage: str | None) -> str | None:
        """Return a description of the first relevant difference, or None if there is none."""
        if not saved["evaluation"] and now["evaluation"]:
            return "its outputs could not be recorded in the fit, since each evaluation gave different ones"
        precision = max(saved["precision"], now["precision"])
        for mode in _MODES:
            for name, before in saved[mode].items():
                if not self._is_relevant(mode, name, saved, now, stage):
                    continue
                difference = find_difference(name, before, now[mode].get(name), precision)
                if difference is not None:
                    where = f" in {mode} mode" if mode == "training" else ""
                    size = f" by up to {difference.size:.2g}" if isfinite(difference.size) else ""
                    seed = self._rounds.seeds[difference.round]
                    return f"{_DESCRIPTIONS[name]} of seed {seed} for fixed images differ{size}{where}"
        return None

    def _is_relevant(
        self, mode: str, name: str, saved: Mapping[str, Any], now: Mapping[str, Any], stage: str | None
    ) -> bool:
        """Return whether a difference would affect the present command and can only come from the code."""
        if mode == "training" and stage != "fit":
            return False
        if name in _LOSS_NAMES and (stage not in ("fit", "validate", "test") or saved["losses"] != now["losses"]):
            return False  # the user is free to configure another loss
        return saved["environment"] == now["environment"] or not self._uses_torch_randomness(mode)

    def _uses_torch_randomness(self, mode: str) -> bool:
        """Return whether the outputs may depend on torch's own random numbers."""
        if mode == "training":
            return any(isinstance(part, LoopedCopies) for stack in self._stacks for part in stack.network.modules())
        return self._is_random_in_evaluation

    def report_change(self, change: str, before: Mapping[str, str], epoch: int, stage: str | None) -> None:
        """Raise PairsLitError because of changed code, or only print a notice if ``may_change`` is set.

        Args:
            change: A description of the change.
            before: The digests of the files when the checkpoint was saved.
            epoch: The number of the checkpoint's last epoch.
            stage: What the checkpoint is loaded for.
        """
        files = self._files.format_changed(before)
        changed = f" ({files} changed)" if files else ""
        message = f"{self.code_location} does not compute what it did in the fit{changed}: {change}."
        if not self.is_change_allowed:
            raise ChangedCodeError(message, self.option)
        print_notice(message)
        if stage == "fit":
            self.changes = sorted({*self.changes, epoch + 1})
        else:
            self.has_changed = True


def _compute_call_digests(architecture: Architecture, seed: int) -> list[str]:
    """Return the digest of the torch calls of one network in each mode."""
    network = architecture.build(seed)
    modules: list[tuple[nn.Module, Sequence[int]]] = [
        (backbone, architecture.image_shape) for backbone in network.backbones
    ]
    if network.head is not None:
        modules.append((network.head, [architecture.get_head_width(network.width)]))
    return [compute_call_digest(modules, training=mode) for mode in _MODES.values()]


def _join_observations(parts: Sequence[Observation]) -> Observation:
    """Concatenate the observations of all stacks, without values that a stack lacks."""
    names = [name for name in (parts[0] if parts else {}) if all(name in part for part in parts)]
    return {name: torch.cat([part[name] for part in parts]) for name in names}


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_valid_record(saved: object, rounds: int, variants: int) -> bool:
    """Return whether a value from a file has the structure of what :meth:`CodeCheck.record` returns."""
    if not isinstance(saved, dict) or not _is_text_mapping(saved.get("files")):
        return False
    if not all(_is_observation(saved.get(mode), rounds) for mode in _MODES) or not _is_epoch_list(saved.get("changes")):
        return False
    texts = [""] * len(_MODES)
    rest = {name: value for name, value in saved.items() if name not in (*_MODES, "files", "changes")}
    environment = dict.fromkeys(("torch", "pairs_lit", "machine"), "")
    example = {"calls": [texts] * variants, "losses": [""] * variants, "environment": environment, "precision": 0.0}
    return matches_schema(rest, example) and rest["precision"] < 1


def _is_observation(saved: object, rounds: int) -> bool:
    if not isinstance(saved, dict) or not saved.keys() <= set(_OBSERVED_NAMES):
        return False
    return all(_is_table(value, rounds) for value in saved.values())


def _is_table(value: object, rounds: int) -> bool:
    """Return whether a value is a dense table (R, ...) of floats."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_meta or value.dim() != 2:
        return False
    return matches_schema(value, torch.empty(rounds, value.shape[1], device="meta"))


def _is_text_mapping(saved: object) -> bool:
    return isinstance(saved, dict) and all(isinstance(text, str) for pair in saved.items() for text in pair)


def _is_epoch_list(saved: object) -> bool:
    return isinstance(saved, list) and all(matches_schema(epoch, 0) for epoch in saved)


def extract_variant_record(saved: Mapping[str, Any], variant: int, variants: int) -> dict[str, Any]:
    """Return what the checkpoint of one variant alone would record, out of the record of all variants.

    Args:
        saved: The record of all variants.
        variant: The number of the variant.
        variants: The number of variants.
    """
    numbers = {
        mode: {name: value.chunk(variants)[variant].clone() for name, value in saved[mode].items()} for mode in _MODES
    }
    entry = slice(variant, variant + 1)
    return {**saved, **numbers, "calls": saved["calls"][entry], "losses": saved["losses"][entry]}


def check_weights(
    checkpoint: Mapping[str, Any], form: StateSchema, record: Mapping[str, Any], code: CodeCheck, stage: str | None
) -> None:
    """Raise PairsLitError if a checkpoint's weights belong to another configuration or do not fit the module.

    If changed code is allowed, a network with another description counts as changed code.

    Args:
        checkpoint: The checkpoint.
        form: The schema of the module's state.
        record: The metadata that the checkpoint must share with the configuration.
        code: The check of the network's code.
        stage: What the checkpoint is loaded for, as in :meth:`CodeCheck.check`.
    """
    saved = checkpoint[METADATA_KEY]
    checked = [name for name in record if name != NETWORK_KEY or not code.is_change_allowed]
    check_metadata(saved, {name: record[name] for name in checked}, code.changed_code_hint)
    check_schema("weights are", form.select_tensors(checkpoint["state_dict"]), form.example, code.changed_files_hint)
    if saved.get(NETWORK_KEY) != record[NETWORK_KEY]:
        before, now = find_first_difference(saved.get(NETWORK_KEY), record[NETWORK_KEY])
        code.report_change(f"it was {shorten(before)} and is {shorten(now)}", {}, checkpoint["epoch"], stage)
