"""The fits that a reproduction consists of: what each is, whether it is finished, where it can go on."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pairs_lit.errors import PairsLitError
from pairs_lit.reproduction.published import Report, Row, Sweep, Variant
from pairs_lit.runs.folder import CONFIG, LAST


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
        label: For the progress bar.
        config: The config's file.
        content: What it says.
        options: What differs from it, by option.
        conditions: What all fits share.
    """

    label: str
    config: Path
    content: Mapping[str, Any]
    options: Mapping[str, str]
    conditions: Conditions

    @property
    def name(self) -> str:
        """The run's name: readable, and different wherever config, seeds or data could differ."""
        exact = {"config": self.content, "options": dict(self.options)}
        digest = hashlib.sha256(json.dumps(exact, sort_keys=True).encode()).hexdigest()
        return f"{self.config.parent.name}-{self.config.stem}-{digest[:10]}"

    @property
    def rounds(self) -> int:
        """How many rounds it trains."""
        return int(self.options.get("rounds.count", self.content["rounds"]["count"]))

    @property
    def epochs(self) -> int:
        """How many epochs it takes."""
        return int(self.options.get("trainer.max_epochs", self.content["trainer"]["max_epochs"]))

    @property
    def arguments(self) -> list[str]:
        """The arguments of ``pairs-lit`` that begin it."""
        shared = {"name": self.name, "trainer.default_root_dir": str(self.conditions.runs)}
        if self.conditions.root is not None:
            shared["data.root"] = str(self.conditions.root)
        options = {**self.options, **shared}
        return ["fit", "--config", str(self.config), *(f"--{key}={value}" for key, value in options.items())]

    @property
    def finished(self) -> Path | None:
        """The run folder of a fit that reached its end; ``summary.json`` is written last."""
        return self._latest("summary.json")

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint that an interrupted fit left."""
        run = self._latest(LAST)
        return None if run is None else run / LAST

    def _latest(self, file: str) -> Path | None:
        folder = self.conditions.runs / "lightning_logs" / self.name
        found = [run for run in folder.glob("*") if (run / file).is_file() and (run / CONFIG).is_file()]
        return max(found, key=lambda run: (run / file).stat().st_mtime, default=None)


def row_job(report: Report, row: Row, conditions: Conditions) -> Job:
    """Return the fit of one row of a report."""
    return _job(report, row.name, conditions, {})


def alone_job(report: Report, row: Row, conditions: Conditions) -> Job:
    """Return the fit that trains a few rounds of a row one after the other, for their time."""
    rounds = report.alone if conditions.rounds is None else min(report.alone, conditions.rounds)
    return _job(report, row.name, conditions, {"rounds.count": str(rounds), "rounds.stack_size": "1"})


def sweep_jobs(report: Report, sweep: Sweep, conditions: Conditions) -> dict[float, Job]:
    """Return a fit for each value of an option."""
    return {value: _job(report, sweep.row, conditions, _filled(sweep, value)) for value in sweep.values}


def variant_jobs(report: Report, variant: Variant, conditions: Conditions) -> dict[str, Job]:
    """Return, by row, a fit with another recipe."""
    options = dict(variant.options)
    if conditions.rounds is not None:
        options.pop("rounds.count", None)
    return {row: _job(report, row, conditions, options) for row in variant.rows}


def _filled(sweep: Sweep, value: float) -> dict[str, str]:
    return {option: text.format(f"{value:g}") for option, text in sweep.options.items()}


def all_jobs(report: Report, conditions: Conditions) -> Iterator[Job]:
    """Yield every fit of a report, its table first."""
    for row in report.rows:
        yield row_job(report, row, conditions)
    for sweep in report.sweeps:
        yield from sweep_jobs(report, sweep, conditions).values()
    for variant in report.variants:
        yield from variant_jobs(report, variant, conditions).values()
    for row in report.rows if report.alone else ():
        yield alone_job(report, row, conditions)


def _job(report: Report, row: str, conditions: Conditions, own: Mapping[str, str]) -> Job:
    config = conditions.configs / report.folder / f"{row}.yaml"
    if not config.is_file():
        raise PairsLitError(
            f"there is no {config}: call reproduce in a clone of the project, or give --configs, the folder that "
            "holds reports/REPORT/ROW.yaml."
        )
    options = {"data.source": "mnist"}
    if conditions.allow_unverified:
        options["data.allow_unverified"] = "true"
    if conditions.rounds is not None:
        options["rounds.count"] = str(conditions.rounds)
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    if conditions.seed is not None:
        options["rounds.seed"] = str(conditions.seed + content["rounds"].get("seed", 0))
    return Job(f"{report.name} {row}", config, content, options | dict(own), conditions)
