"""Fixtures: small fits of three stacks in one process, and the environment of a Slurm job."""

import os
from pathlib import Path

import pytest

from pairs_lit.cli import main
from tests.conftest import CONFIGS
from tests.support.worker_runs import (
    EVALUATION_COMMANDS,
    SLURM,
    STATEFUL_OPTIONS,
    BuildArguments,
    resume_arguments,
    run_fit,
    worker_options,
)


@pytest.fixture(autouse=True)
def _no_launcher_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "MASTER_", "TORCHELASTIC"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def order(tiny_root: Path) -> BuildArguments:
    """A function that builds the arguments of a small fit of three stacks, the last with a single round."""

    def arguments(root: Path, *options: str, config: str = "fc_aux") -> list[str]:
        common = (
            f"--data.root {tiny_root} --data.source mnist --data.allow_unverified true --data.train_pairs 40 "
            "--data.val_pairs 20 --data.test_pairs 30 --data.batch_size 16 --rounds.count 5 --rounds.stack_size 2 "
            f"--trainer.max_epochs 3 --trainer.default_root_dir {root} --trainer.enable_progress_bar false"
        )
        return ["fit", "--config", str(CONFIGS / f"{config}.yaml"), *common.split(), *options]

    return arguments


@pytest.fixture(scope="session")
def alone(order: BuildArguments, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a fit in one process."""
    root = tmp_path_factory.mktemp("alone")
    return run_fit(order(root, *worker_options(1)), root)


@pytest.fixture(scope="session")
def stateful(order: BuildArguments, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a fit with dropout, batch norm and a schedule, with the tables of the evaluation commands."""
    root = tmp_path_factory.mktemp("stateful")
    run = run_fit(order(root, *STATEFUL_OPTIONS, *worker_options(1), config="cnn_aux"), root)
    for command in EVALUATION_COMMANDS:
        assert main(resume_arguments(run, command)) == 0
    return run


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a Slurm job, with a fake scontrol that writes its arguments to the file ``told``."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n')
    (tools / "scontrol").chmod(0o755)
    return SLURM | {"PATH": f"{tools}:{os.environ['PATH']}"}
