"""The fits that a reproduction consists of: what each is, whether it is finished, where it can go on."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairs_lit.errors import PairsLitError
from pairs_lit.reproduction.published import ALONE, Report, Row
from pairs_lit.runs.run_folder import CONFIG, LAST, SUMMARY
from pairs_lit.runs.yaml_text import load_file

_COUNT = "rounds.count"


@dataclass(frozen=True)
class Conditions:
    """What all fits of a reproduction share; None: as each config says."""

    configs: Path  # holds <folder>/<row>.yaml of every report
    rounds: int | None
    seed: int | None  # of the first round
    root: Path | None  # the folder of MNIST
    allow_unverified: bool  # accept other files in MNIST's format
    runs: Path  # holds lightning_logs, or will


@dataclass(frozen=True)
class Job:
    """One fit."""

    report: Report
    row: Row
    config: Path
    content: Mapping[str, Any]  # of the config
    options: Mapping[str, str]  # what differs from it
    conditions: Conditions
    recipe: str  # the sweep or variant that it belongs to, or ALONE; empty: it is the row's own
    value: float | None  # the sweep's

    @property
    def name(self) -> str:
        """The run's name: readable, and different wherever config, seeds or data could differ."""
        exact = {"config": self.content, "options": dict(self.options)}
        digest = hashlib.sha256(json.dumps(exact, sort_keys=True).encode()).hexdigest()
        return f"{self.config.parent.name}-{self.config.stem}-{digest[:10]}"

    @property
    def rounds(self) -> int:
        """How many rounds it trains."""
        return int(self.options.get(_COUNT, self.content["rounds"]["count"]))

    @property
    def epochs(self) -> int:
        """How many epochs it takes."""
        return int(self.options.get("trainer.max_epochs", self.content["trainer"]["max_epochs"]))

    @property
    def changes(self) -> dict[str, object]:
        """What :func:`pairs_lit.fit` must change in the config, and from which checkpoint it goes on."""
        own: dict[str, object] = {"name": self.name, "trainer.default_root_dir": self.conditions.runs}
        optional = {"data.root": self.conditions.root, "ckpt_path": self.checkpoint}
        if self.recipe == ALONE:
            own["trainer.devices"] = 1  # one at a time
        return {**self.options, **own, **{option: path for option, path in optional.items() if path is not None}}

    @property
    def finished(self) -> Path | None:
        """The run folder of a fit that reached its end; ``summary.json`` is written last."""
        return self._latest(SUMMARY)

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint that an interrupted fit left."""
        run = self._latest(LAST)
        return None if run is None else run / LAST

    def _latest(self, file: str) -> Path | None:
        folder = self.conditions.runs / "lightning_logs" / self.name
        found = [run for run in folder.glob("*") if (run / file).is_file() and (run / CONFIG).is_file()]
        return max(found, key=lambda run: (run / file).stat().st_mtime, default=None)


def all_jobs(report: Report, conditions: Conditions) -> Iterator[Job]:
    """Yield every fit of a report, its table first.

    Raises:
        PairsLitError: A row has no config.
    """
    for row, own, recipe, value in _recipes(report, conditions.rounds):
        config = conditions.configs / report.folder / f"{row.name}.yaml"
        if not config.is_file():
            raise PairsLitError(f"there is no {config}: --configs must be a folder that holds reports/REPORT/ROW.yaml.")
        content = load_file(config)
        options = {"data.source": "mnist"}
        if conditions.allow_unverified:
            options["data.allow_unverified"] = "true"
        if conditions.rounds is not None:
            options[_COUNT] = str(conditions.rounds)
        if conditions.seed is not None:
            options["rounds.seed"] = str(conditions.seed + content["rounds"].get("seed", 0))
        yield Job(report, row, config, content, options | own, conditions, recipe, value)


def _recipes(report: Report, asked: int | None) -> Iterator[tuple[Row, dict[str, str], str, float | None]]:
    """Yield row, options, recipe and value of every fit; rounds that are asked for beat a variant's own number."""
    rows = {row.name: row for row in report.rows}
    for row in report.rows:
        yield row, {}, "", None
    for sweep in report.sweeps:
        for value in sweep.values:
            filled = {option: text.replace("{}", f"{value:g}") for option, text in sweep.options.items()}
            yield rows[sweep.row], filled, sweep.name, value
    for variant in report.variants:
        own = {option: text for option, text in variant.options.items() if asked is None or option != _COUNT}
        for name in variant.rows:
            yield rows[name], own, variant.name, None
    if report.alone:
        rounds = report.alone if asked is None else min(report.alone, asked)
        for row in report.rows:
            yield row, {_COUNT: str(rounds), "rounds.stack_size": "1"}, ALONE, None
