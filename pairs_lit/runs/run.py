"""A finished run, read from its folder, without its networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, Self

from pairs_lit.runs.metrics import COMPARABLE_METRICS
from pairs_lit.runs.run_folder import CONFIG_FILE, CURVES_FILE, ROUNDS_FILE
from pairs_lit.runs.run_metadata import (
    RunMetadata,
    Settings,
    read_class_names,
    read_data_settings,
    read_digits_trained,
    read_metadata,
    translate_read_errors,
)
from pairs_lit.runs.tables import (
    COLUMNS,
    Curves,
    RoundResult,
    build_unknown_name_error,
    read_curves,
    read_rounds,
    summarise_rounds,
)
from pairs_lit.runs.yaml_text import load_yaml_file
from pairs_lit.statistics import NAN, Summary


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: its results, settings and curves.

    Attributes:
        folder: The run folder.
        label: A short name: the config's, unless the run is compared with others of this name.
        rounds: The results of each round.
        data: The data settings: source, relation, numbers of pairs and so on.
        allow_changed_code: Whether its networks may be used even if their code has changed since the fit.
    """

    folder: Path
    label: str
    rounds: Sequence[RoundResult]
    data: Settings
    allow_changed_code: bool = False

    @classmethod
    def load(cls, folder: str | Path, *, allow_changed_code: bool = False) -> Self:
        """Read a run folder; raise PairsLitError if it is damaged, or the run is not finished.

        Args:
            folder: The run folder.
            allow_changed_code: Use its networks even if their code has changed since the fit; all outputs then contain
                a note.
        """
        folder = Path(folder)
        with translate_read_errors(folder):
            rounds, data = read_rounds(folder / ROUNDS_FILE), read_data_settings(folder)
        return cls(folder, folder.resolve().parent.name, rounds, data, allow_changed_code)

    def values(self, metric: str) -> dict[int, float]:
        """Return a metric by seed, of the rounds that did not fail; empty if this run did not measure it.

        Args:
            metric: A column of ``rounds.csv``, or a loss after the last epoch, such as ``val_loss``.

        Raises:
            PairsLitError: There is no such metric.
        """
        compared = {known.column: known for known in COMPARABLE_METRICS}
        if metric not in COLUMNS and metric not in compared:
            raise build_unknown_name_error(metric, compared)
        good = [vars(result) for result in self.rounds if result.status == "ok"]
        if metric in COLUMNS:
            return {row["seed"]: row[metric] for row in good if row[metric] is not None}
        last = self.curves.get_last_values(compared[metric].tag)
        return {row["seed"]: last[row["seed"]] for row in good if isfinite(last.get(row["seed"], NAN))}

    @property
    def failed(self) -> list[int]:
        """The seeds of the rounds that failed."""
        return [result.seed for result in self.rounds if result.status != "ok"]

    @cached_property
    def summary(self) -> dict[str, Summary]:
        """The summary of each metric of ``rounds.csv`` over the rounds that did not fail."""
        return summarise_rounds(self.rounds)

    @cached_property
    def curves(self) -> Curves:
        """The metrics after each epoch, read on first access."""
        with translate_read_errors(self.folder):
            return read_curves(self.folder / CURVES_FILE)

    @cached_property
    def facts(self) -> RunMetadata:
        """The run's metadata: data settings, number of parameters, time, commits and the version of torch."""
        return read_metadata(self.folder)

    @cached_property
    def digits_trained(self) -> bool | None:
        """Whether its networks were trained to classify digits, or None if an earlier release trained it."""
        return read_digits_trained(self.folder)

    @cached_property
    def class_names(self) -> Sequence[str]:
        """The names of the classes in their order, or empty if they are called by their numbers, from 0."""
        return read_class_names(self.folder)

    @property
    def config(self) -> Mapping[str, Any]:
        """The content of ``config.yaml``."""
        with translate_read_errors(self.folder):
            content: Mapping[str, Any] = load_yaml_file(self.folder / CONFIG_FILE)
            return content
