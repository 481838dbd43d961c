"""Tests that requeued Slurm jobs resume in their run folders."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from pairs_lit.checkpoints.files import read_checkpoint
from pairs_lit.cli import main
from pairs_lit.runs.tables import read_curves
from tests.conftest import CONFIGS, Fit
from tests.support.kill_targets import Command
from tests.support.runs import COMMAND
from tests.support.worker_runs import (
    BuildArguments,
    build_srun_environment,
    check_same,
    find_free_port,
    find_run,
    needs_linux,
    read_lines,
    run_command,
    start_command,
    worker_options,
)

pytestmark = needs_linux
ANNOUNCED = "[{class_path: tests.support.worker_parts.Announces, init_args: {rank: %d}}]"
REQUEUED = {"SLURM_RESTART_COUNT": "1"}


@pytest.mark.slow
def test_job_that_ends_is_requeued_and_resumes_in_its_run_folder(
    order: BuildArguments, alone: Path, tmp_path: Path, slurm: dict[str, str]
) -> None:
    said, told = tmp_path / "said", tmp_path / "told"
    arguments = order(tmp_path, *worker_options(2), "--trainer.callbacks", ANNOUNCED % 0)
    assert run_command(arguments, said, slurm) == 128 + signal.SIGUSR1
    assert told.read_text() == "requeue 4711\n"
    assert [re.split("[;.] ", line)[0] for line in read_lines(said)] == [
        "pairs-lit: Slurm job 4711 was requeued.",
        "pairs-lit: stopped by SIGUSR1",
    ]
    run = find_run(tmp_path)
    (tmp_path / "hpc_ckpt_1.ckpt").write_bytes(b"not ours")
    before = {path: path.read_bytes() for path in run.rglob("*.*") if path.is_file()}
    others = {"another job": slurm | {"SLURM_JOB_ID": "4712"} | REQUEUED, "a first start": slurm}
    for environment in others.values():  # each creates a new run folder
        assert run_command(arguments, said, environment) == 128 + signal.SIGUSR1 or environment is not slurm
    assert run_command([*arguments, "--rounds.seed", "7"], said, slurm | REQUEUED) == 0
    assert {path: path.read_bytes() for path in before} == before
    assert len(list(tmp_path.glob("lightning_logs/*/*"))) == 4
    said.unlink()
    assert run_command(arguments, said, slurm | REQUEUED) == 0
    assert "this job was requeued; the fit is resumed in" in said.read_text()
    assert len(list(tmp_path.glob("lightning_logs/*/*"))) == 4


def test_requeued_job_gives_the_tables_of_an_uninterrupted_fit(
    order: BuildArguments, alone: Path, tmp_path: Path, slurm: dict[str, str]
) -> None:
    arguments = order(tmp_path, *worker_options(2), "--trainer.callbacks", ANNOUNCED % 0)
    assert run_command(arguments, tmp_path / "said", slurm) == 128 + signal.SIGUSR1
    assert read_checkpoint(find_run(tmp_path) / "checkpoints/last.ckpt")["epoch"] == 1
    assert run_command(arguments, tmp_path / "said", slurm | REQUEUED) == 0
    check_same(find_run(tmp_path), alone)


def test_task_of_an_array_job_is_requeued_by_its_array_id(
    order: BuildArguments, tmp_path: Path, slurm: dict[str, str]
) -> None:
    array = {"SLURM_ARRAY_JOB_ID": "90", "SLURM_ARRAY_TASK_ID": "3"}
    arguments = order(tmp_path, *worker_options(2), "--trainer.callbacks", ANNOUNCED % 0)
    assert run_command(arguments, tmp_path / "said", slurm | array) == 128 + signal.SIGUSR1
    assert (tmp_path / "told").read_text() == "requeue 90_3\n"


@pytest.mark.parametrize("missing", [False, True], ids=["fails", "is missing"])
@pytest.mark.quick(1)
def test_failure_of_scontrol_is_reported(
    order: BuildArguments, tmp_path: Path, slurm: dict[str, str], missing: bool
) -> None:
    tool = tmp_path / "tools" / "scontrol"
    tool.write_text("#!/bin/sh\necho 'slurm_requeue error:\nJob is pending' >&2\nexit 1\n")
    if missing:
        tool.unlink()
    arguments = order(tmp_path, *worker_options(2), "--trainer.callbacks", ANNOUNCED % 0)
    assert run_command(arguments, tmp_path / "said", slurm) == 128 + signal.SIGUSR1
    first, second = read_lines(tmp_path / "said")
    reason = "No such file" if missing else "slurm_requeue error: Job is pending"
    assert "scontrol requeue 4711 failed (" in first
    assert reason in first
    assert "Requeue the job yourself" in first
    assert "stopped by SIGUSR1" in second


def test_any_srun_task_may_receive_the_signal_and_only_one_requeues(
    order: BuildArguments, tmp_path: Path, slurm: dict[str, str]
) -> None:
    port, arguments = find_free_port(), order(tmp_path, "--trainer.callbacks", ANNOUNCED % 1)
    with (
        start_command(arguments, tmp_path / "first", slurm | build_srun_environment(0, port)) as first,
        start_command(arguments, tmp_path / "second", slurm | build_srun_environment(1, port)) as second,
    ):
        pass
    assert (first.exitcode, second.exitcode) == (138, 138)
    assert (tmp_path / "told").read_text() == "requeue 4711\n"
    assert read_lines(tmp_path / "second") == []


PARTS = "tests.support.real_world_parts"


SLURM_JOB = {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS_PER_NODE": "4"}


class TestSlurm:
    def test_fit_ignores_checkpoints_of_lightnings_slurm_support(
        self, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in SLURM_JOB.items():
            monkeypatch.setenv(name, value)
        (tmp_path / "hpc_ckpt_1.ckpt").write_text("of another program")
        fit(config="fc_aux")
        assert os.environ["SLURM_NTASKS"] == "1"

    @pytest.mark.slow
    def test_one_of_several_slurm_processes_is_rejected(self, tiny_options: list[str]) -> None:
        second = Command(["fit", "--config", str(CONFIGS / "fc.yaml"), *tiny_options], SLURM_PROCID="1")
        assert (second.finish(), second.err.count("SLURM_PROCID is 1: this is one of several")) == (2, 1)

    @pytest.mark.slow
    def test_sigusr1_saves_and_prints_the_resume_command(self, tiny_options: list[str], tmp_path: Path) -> None:
        whole = [*tiny_options, "--trainer.max_epochs", "100000", "--trainer.default_root_dir", str(tmp_path)]
        job = Command(["fit", "--config", str(CONFIGS / "fc.yaml"), *whole], **SLURM_JOB)
        while not any(tmp_path.glob("lightning_logs/*/*/checkpoints/last.ckpt")):
            assert job.is_alive
            time.sleep(0.1)
        job.send_signal(signal.SIGUSR1)
        assert job.finish() == 128 + signal.SIGUSR1
        (run,) = tmp_path.glob("lightning_logs/*/*")
        told = f"pairs-lit: stopped by SIGUSR1. Progress was saved; resume with pairs-lit fit {run}."
        assert job.err.splitlines()[-1] == told
        assert not list(tmp_path.glob("*.ckpt"))
        epochs = read_checkpoint(run / "checkpoints" / "last.ckpt")["epoch"] + 1
        assert main(["fit", str(run), "--trainer.max_epochs", str(epochs + 1)]) == 0
        assert read_curves(run / "curves.csv").epochs == epochs + 1

    def test_fit_completes_if_the_end_is_announced_in_its_last_epoch(self, fit: Fit) -> None:
        run = fit("--trainer.callbacks", f"{PARTS}.Announces", config="fc_aux")
        assert (run / "summary.json").is_file()

    def test_reproduce_stops_after_a_fit_whose_last_epoch_had_the_announcement(
        self, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for row in ("net1", "net2"):
            content = yaml.safe_load((CONFIGS / "reports" / "hakobyan" / f"{row}.yaml").read_text())
            content["trainer"] |= {"max_epochs": 2, "callbacks": [{"class_path": f"{PARTS}.Announces"}]}
            content["data"] |= {"train_pairs": 40, "val_pairs": 20, "test_pairs": 30, "batch_size": 20}
            content["rounds"]["count"] = 2
            (tmp_path / "reports" / "hakobyan").mkdir(exist_ok=True, parents=True)
            (tmp_path / "reports" / "hakobyan" / f"{row}.yaml").write_text(yaml.safe_dump(content))
        options = ["--configs", str(tmp_path), "--data.root", str(tiny_root), "--data.allow_unverified"]
        options += ["--runs", str(tmp_path), "--output", str(tmp_path / "results")]
        assert main(["reproduce", "hakobyan", *options]) == 128 + signal.SIGUSR1
        assert "stopped by SIGUSR1. Progress was saved; resume with the same command." in capsys.readouterr().err
        assert len(list(tmp_path.glob("lightning_logs/*/*/summary.json"))) == 1
        assert main(["reproduce", "hakobyan", *options]) == 128 + signal.SIGUSR1
        assert len(list(tmp_path.glob("lightning_logs/*/*/summary.json"))) == 2

    def test_sigusr1_before_training_gives_one_line(self, tiny_options: list[str], tmp_path: Path) -> None:
        arguments = [*COMMAND, "fit", "--config", str(CONFIGS / "fc.yaml"), *tiny_options]
        job = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        assert job.stderr is not None
        job.stderr.readline()  # "loading PyTorch and Lightning …"
        job.send_signal(signal.SIGUSR1)
        _, said = job.communicate(timeout=60)
        assert job.returncode == 128 + signal.SIGUSR1
        assert said.splitlines()[-1].startswith("pairs-lit: stopped by SIGUSR1. ")
        assert "Traceback" not in said

    def test_former_signal_handler_is_restored(self, fit: Fit) -> None:
        before = signal.getsignal(signal.SIGUSR1)
        fit(config="fc_aux")
        assert signal.getsignal(signal.SIGUSR1) is before
