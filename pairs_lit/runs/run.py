"""A finished run, as its folder tells it, without its networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, Self

from pairs_lit.runs.metrics import COMPARED_METRICS
from pairs_lit.runs.run_folder import CONFIG, CURVES, ROUNDS
from pairs_lit.runs.run_metadata import (
    Facts,
    Settings,
    read_class_names,
    read_data,
    read_digits_trained,
    read_facts,
    readable,
)
from pairs_lit.runs.tables import COLUMNS, Curves, RoundResult, read_curves, read_rounds, summaries, unknown_name
from pairs_lit.runs.yaml_text import load_file
from pairs_lit.statistics import NAN, Summary


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: its results, settings and curves.

    Attributes:
        folder: The run folder.
        label: A short name; the config's, unless it is compared with others of this name.
        rounds: What came of each round.
        data: What was drawn: source, relation, counts and so on.
        allow_changed_code: Whether to use its networks although their code has changed since the fit.
    """

    folder: Path
    label: str
    rounds: Sequence[RoundResult]
    data: Settings
    allow_changed_code: bool = False

    @classmethod
    def load(cls, folder: str | Path, *, allow_changed_code: bool = False) -> Self:
        """Read a run folder; raise PairsLitError if it is damaged, or not of a finished run.

        Args:
            folder: The run folder.
            allow_changed_code: Use its networks although their code has changed since the fit; what is written then
                says so.
        """
        folder = Path(folder)
        with readable(folder):
            rounds, data = read_rounds(folder / ROUNDS), read_data(folder)
        return cls(folder, folder.resolve().parent.name, rounds, data, allow_changed_code)

    def values(self, metric: str) -> dict[int, float]:
        """Return a column of ``rounds.csv`` by seed, of the rounds that did not fail.

        Likewise the losses after the last epoch, ``val_loss`` and so on, which ``curves.csv`` holds.

        Raises:
            PairsLitError: There is no such column; one that this run did not measure is empty.
        """
        compared = {each.column: each for each in COMPARED_METRICS}
        if metric not in COLUMNS and metric not in compared:
            raise unknown_name(metric, compared)
        good = [vars(each) for each in self.rounds if each.status == "ok"]
        if metric in COLUMNS:
            return {row["seed"]: row[metric] for row in good if row[metric] is not None}
        last = self.curves.last(compared[metric].tag)
        return {row["seed"]: last[row["seed"]] for row in good if isfinite(last.get(row["seed"], NAN))}

    @property
    def failed(self) -> list[int]:
        """The seeds of the rounds that failed."""
        return [each.seed for each in self.rounds if each.status != "ok"]

    @cached_property
    def summary(self) -> dict[str, Summary]:
        """Every column of ``rounds.csv`` over the rounds that did not fail."""
        return summaries(self.rounds)

    @cached_property
    def curves(self) -> Curves:
        """What was measured after each epoch; read when it is asked for."""
        with readable(self.folder):
            return read_curves(self.folder / CURVES)

    @cached_property
    def facts(self) -> Facts:
        """What the run says of itself beside its figures: parameters, time, commits, versions."""
        return read_facts(self.folder)

    @cached_property
    def digits_trained(self) -> bool | None:
        """Whether anything trained its networks to name digits; None if an earlier release trained it."""
        return read_digits_trained(self.folder)

    @cached_property
    def class_names(self) -> Sequence[str]:
        """What the classes are called, in their order; empty if they are called by their numbers, from 0."""
        return read_class_names(self.folder)

    @property
    def config(self) -> Mapping[str, Any]:
        """Every option, as ``config.yaml`` has it."""
        with readable(self.folder):
            content: Mapping[str, Any] = load_file(self.folder / CONFIG)
            return content
