"""The fits that a reproduction consists of: what each is, whether it is finished, where it can go on."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pairs_lit.errors import PairsLitError
from pairs_lit.reproduction.published import ALONE, Report, Row
from pairs_lit.runs.folder import CONFIG, LAST, SUMMARY

_COUNT = "rounds.count"


@dataclass(frozen=True)
class Conditions:
    """What all fits of a reproduction share.

    Attributes:
        configs: Holds ``<folder>/<row>.yaml`` of every report.
        rounds: How many rounds; None: as each config says.
        seed: The seed of the first; None: as each config says.
        root: The folder of MNIST; None: the default one.
        allow_unverified: Accept other files in MNIST's format.
        runs: Holds, or is to hold, ``lightning_logs``.
    """

    configs: Path
    rounds: int | None
    seed: int | None
    root: Path | None
    allow_unverified: bool
    runs: Path


@dataclass(frozen=True)
class Job:
    """One fit.

    Attributes:
        report: What it belongs to.
        row: The row that it trains.
        config: The config's file.
        content: What that says.
        options: What differs from it, by option.
        conditions: What all fits share.
        recipe: The sweep or variant that it belongs to, or ``ALONE``; empty: it is the row's own.
        value: The sweep's value.
    """

    report: Report
    row: Row
    config: Path
    content: Mapping[str, Any]
    options: Mapping[str, str]
    conditions: Conditions
    recipe: str
    value: float | None

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
        """What :func:`pairs_lit.fit` must change in the config."""
        root = {} if self.conditions.root is None else {"data.root": self.conditions.root}
        return {**self.options, "name": self.name, "trainer.default_root_dir": self.conditions.runs, **root}

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
    rows = {row.name: row for row in report.rows}
    for row in report.rows:
        yield _job(report, row, conditions, {})
    for sweep in report.sweeps:
        for value in sweep.values:
            filled = {option: text.replace("{}", f"{value:g}") for option, text in sweep.options.items()}
            yield _job(report, rows[sweep.row], conditions, filled, sweep.name, value)
    for variant in report.variants:
        own = {key: text for key, text in variant.options.items() if conditions.rounds is None or key != _COUNT}
        for name in variant.rows:
            yield _job(report, rows[name], conditions, own, variant.name)
    for row in report.rows if report.alone else ():
        rounds = report.alone if conditions.rounds is None else min(report.alone, conditions.rounds)
        yield _job(report, row, conditions, {_COUNT: str(rounds), "rounds.stack_size": "1"}, ALONE)


def _job(
    report: Report,
    row: Row,
    conditions: Conditions,
    own: Mapping[str, str],
    recipe: str = "",
    value: float | None = None,
) -> Job:
    config = conditions.configs / report.folder / f"{row.name}.yaml"
    if not config.is_file():
        raise PairsLitError(f"there is no {config}: --configs must be a folder that holds reports/REPORT/ROW.yaml.")
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    options = {"data.source": "mnist"}
    if conditions.allow_unverified:
        options["data.allow_unverified"] = "true"
    if conditions.rounds is not None:
        options[_COUNT] = str(conditions.rounds)
    if conditions.seed is not None:
        options["rounds.seed"] = str(conditions.seed + content["rounds"].get("seed", 0))
    return Job(report, row, config, content, options | dict(own), conditions, recipe, value)
