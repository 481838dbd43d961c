"""Fits of a reproduction: settings, finished runs, and checkpoints to resume from."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairs_lit.errors import PairsLitError
from pairs_lit.reproduction.published import ALONE_RECIPE, Report, Row
from pairs_lit.runs.run_folder import CONFIG_FILE, LAST_CHECKPOINT, SUMMARY_FILE
from pairs_lit.runs.yaml_text import load_yaml_file

_ROUND_COUNT_OPTION = "rounds.count"


@dataclass(frozen=True)
class ReproductionSettings:
    """Settings that all fits of a reproduction share; None leaves the value of each config."""

    configs: Path  # the folder that holds <folder>/<row>.yaml of every report
    rounds: int | None
    seed: int | None  # of the first round
    root: Path | None  # the folder that holds MNIST
    allow_unverified: bool  # accept other files in MNIST's format
    runs: Path  # the folder in which lightning_logs is or will be


@dataclass(frozen=True)
class Job:
    """A fit of one row with one recipe."""

    report: Report
    row: Row
    config: Path
    content: Mapping[str, Any]  # the parsed config
    options: Mapping[str, str]  # options that override the config
    conditions: ReproductionSettings
    recipe: str  # name of the sweep or variant, or ALONE, or empty for the row's config itself
    value: float | None  # the swept value, or None outside sweeps

    @property
    def name(self) -> str:
        """The run's name: report, row, and a hash of the config and the options that override it."""
        exact = {"config": self.content, "options": dict(self.options)}
        digest = hashlib.sha256(json.dumps(exact, sort_keys=True).encode()).hexdigest()
        return f"{self.config.parent.name}-{self.config.stem}-{digest[:10]}"

    @property
    def rounds(self) -> int:
        """The number of rounds."""
        return int(self.options.get(_ROUND_COUNT_OPTION, self.content["rounds"]["count"]))

    @property
    def epochs(self) -> int:
        """The number of epochs."""
        return int(self.options.get("trainer.max_epochs", self.content["trainer"]["max_epochs"]))

    @property
    def changes(self) -> dict[str, object]:
        """Changes of the config for :func:`pairs_lit.fit`, with the checkpoint to resume from."""
        changes: dict[str, object] = {"name": self.name, "trainer.default_root_dir": self.conditions.runs}
        if self.recipe == ALONE_RECIPE:
            changes["trainer.devices"] = 1  # two workers would train two rounds at once, and distort the times
        paths = {"data.root": self.conditions.root, "ckpt_path": self.checkpoint}
        return {**self.options, **changes, **{option: path for option, path in paths.items() if path is not None}}

    @property
    def finished_run(self) -> Path | None:
        """The folder of the finished run, which has a ``summary.json``, or None if there is none."""
        return self._find_latest_run(SUMMARY_FILE)

    @property
    def checkpoint(self) -> Path | None:
        """The latest checkpoint, or None if there is none."""
        run = self._find_latest_run(LAST_CHECKPOINT)
        return None if run is None else run / LAST_CHECKPOINT

    def _find_latest_run(self, file: str) -> Path | None:
        folder = self.conditions.runs / "lightning_logs" / self.name
        runs = [run for run in folder.glob("*") if (run / file).is_file() and (run / CONFIG_FILE).is_file()]
        return max(runs, key=lambda run: (run / file).stat().st_mtime, default=None)


def iterate_jobs(report: Report, conditions: ReproductionSettings) -> Iterator[Job]:
    """Yield every fit of a report; those of its table come first.

    Raises:
        PairsLitError: A row has no config.
    """
    for row, overrides, recipe, value in _iterate_recipes(report, conditions.rounds):
        config = conditions.configs / report.folder / f"{row.name}.yaml"
        if not config.is_file():
            raise PairsLitError(f"there is no {config}. --configs must be a folder that holds reports/REPORT/ROW.yaml.")
        content = load_yaml_file(config)
        options = {"data.source": "mnist"}
        if conditions.allow_unverified:
            options["data.allow_unverified"] = "true"
        if conditions.rounds is not None:
            options[_ROUND_COUNT_OPTION] = str(conditions.rounds)
        if conditions.seed is not None:
            options["rounds.seed"] = str(conditions.seed + content["rounds"].get("seed", 0))
        yield Job(report, row, config, content, options | overrides, conditions, recipe, value)


def _iterate_recipes(report: Report, requested: int | None) -> Iterator[tuple[Row, dict[str, str], str, float | None]]:
    """Yield row, options, recipe and value of every fit; a requested number of rounds overrides that of a variant."""
    rows = {row.name: row for row in report.rows}
    for row in report.rows:
        yield row, {}, "", None
    for sweep in report.sweeps:
        for value in sweep.values:
            filled = {option: text.replace("{}", f"{value:g}") for option, text in sweep.options.items()}
            yield rows[sweep.row], filled, sweep.name, value
    for variant in report.variants:
        options = {
            key: text for key, text in variant.options.items() if requested is None or key != _ROUND_COUNT_OPTION
        }
        for name in variant.rows:
            yield rows[name], options, variant.name, None
    if report.alone:
        rounds = report.alone if requested is None else min(report.alone, requested)
        for row in report.rows:
            yield row, {_ROUND_COUNT_OPTION: str(rounds), "rounds.stack_size": "1"}, ALONE_RECIPE, None
