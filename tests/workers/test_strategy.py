"""Tests that the tables do not depend on the number of workers."""

import json
import os
import re
import signal
import threading
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

import pairs_lit
from pairs_lit import PairDataModule, PairModule, Results, RoundRunner
from pairs_lit.cli import main
from pairs_lit.errors import PairsLitError
from pairs_lit.nn.backbones import FC
from pairs_lit.nn.heads import MLP
from tests.conftest import CONFIGS
from tests.support.worker_parts import Counts
from tests.support.worker_runs import (
    EVALUATION_COMMANDS,
    LONG_OPTIONS,
    STATEFUL_OPTIONS,
    TABLES,
    BuildArguments,
    check_same,
    check_same_checkpoint,
    find_run,
    list_processes,
    needs_linux,
    resume_arguments,
    run_command,
    run_fit,
    start_command,
    wait_for_checkpoint,
    worker_options,
)

pytestmark = needs_linux


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.quick(1)
def test_any_number_of_workers_gives_the_same_tables_and_checkpoint(
    order: BuildArguments, stateful: Path, tmp_path: Path, count: int
) -> None:
    run = run_fit(order(tmp_path, *STATEFUL_OPTIONS, *worker_options(count), config="cnn_aux"), tmp_path)
    for command in EVALUATION_COMMANDS:
        assert main(resume_arguments(run, command)) == 0
    check_same(run, stateful, TABLES)
    check_same_checkpoint(run, stateful)
    summary = json.loads((run / "summary.json").read_text())
    assert [summary[name] for name in ("workers", "nodes", "threads")] == [count, 1, 1]


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.quick(1)
def test_tables_depend_on_the_stack_size_but_not_on_the_number_of_workers(
    order: BuildArguments, tmp_path: Path, size: int
) -> None:
    for count in (1, 3):
        options = ("--rounds.stack_size", str(size), *worker_options(count))
        run_fit(order(tmp_path / str(count), *options), tmp_path / str(count))
    check_same(find_run(tmp_path / "1"), find_run(tmp_path / "3"))


@pytest.mark.slow
def test_workers_with_several_threads_do_not_deadlock(order: BuildArguments, tmp_path: Path) -> None:
    for count in (1, 2):
        arguments = order(tmp_path / str(count), "--rounds.threads", "2", *worker_options(count), config="cnn_aux")
        assert run_command(arguments, tmp_path / "said") == 0
    check_same(find_run(tmp_path / "1"), find_run(tmp_path / "2"))
    assert json.loads((find_run(tmp_path / "2") / "summary.json").read_text())["threads"] == 2


@pytest.mark.parametrize("before", [1, 2, 3])
@pytest.mark.quick(1)
def test_run_resumes_with_another_number_of_workers(
    order: BuildArguments, alone: Path, tmp_path: Path, before: int
) -> None:
    run_fit(order(tmp_path, "--trainer.max_epochs", "1", *worker_options(before)), tmp_path)
    run = find_run(tmp_path)
    assert main([*resume_arguments(run), "--trainer.max_epochs", "3", *worker_options(before % 3 + 1)]) == 0
    check_same(run, alone)
    check_same_checkpoint(run, alone)


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 2, 3])
def test_run_whose_workers_were_all_killed_resumes_with_any_number(
    order: BuildArguments, stateful: Path, tmp_path: Path, after: int
) -> None:
    callback = ("--trainer.callbacks", "[tests.support.worker_parts.Slow]")
    arguments = order(tmp_path, *STATEFUL_OPTIONS, *callback, *worker_options(2), config="cnn_aux")
    with start_command(arguments, tmp_path / "said") as process:
        wait_for_checkpoint(tmp_path)
        os.killpg(process.pid or 0, signal.SIGKILL)
    run = find_run(tmp_path)
    assert not (run / "rounds.csv").exists()
    assert run_command([*resume_arguments(run), *worker_options(after)], tmp_path / "said") == 0
    check_same(run, stateful)


def test_several_workers_write_one_run_folder_and_print_once(
    order: BuildArguments, alone: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = run_fit(order(tmp_path, *worker_options(3)), tmp_path)
    out, err = capfd.readouterr()
    assert out.count(str(run)) == 1
    assert err == ""
    ours, theirs = ({path.name for path in each.rglob("*") if "events" not in path.name} for each in (run, alone))
    assert ours - set(TABLES) == theirs - set(TABLES)
    assert len(list(run.glob("events*"))) == len(list(alone.glob("events*")))


def test_saved_config_can_be_run_again(order: BuildArguments, alone: Path, tmp_path: Path) -> None:
    first = run_fit(order(tmp_path / "first", *worker_options(2)), tmp_path / "first")
    config = yaml.safe_load((first / "config.yaml").read_text())
    assert (config["trainer"]["devices"], config["trainer"]["strategy"]) in ((2, "stacks"), ("2", "stacks"))
    again = ["fit", "--config", str(first / "config.yaml"), "--trainer.default_root_dir", str(tmp_path / "again")]
    assert main(again) == 0
    check_same(next(tmp_path.glob("again/lightning_logs/*/*")), alone)


def test_config_of_an_earlier_release_runs_in_one_process(order: BuildArguments, alone: Path, tmp_path: Path) -> None:
    run = run_fit(order(tmp_path, "--trainer.devices", "1", "--trainer.strategy", "auto"), tmp_path)
    check_same(run, alone)
    assert json.loads((run / "summary.json").read_text())["workers"] == 1


@pytest.mark.parametrize("elsewhere", [False, True], ids=["main thread", "another thread"])
@pytest.mark.slow
def test_two_fits_from_python_with_a_stateful_callback(
    order: BuildArguments, alone: Path, tmp_path: Path, elsewhere: bool
) -> None:
    runs, counts = [], Counts()
    options = dict(zip(*[iter(each.removeprefix("--") for each in order(tmp_path)[3:])] * 2, strict=True))
    options["trainer.devices"] = "2"

    def fit_twice() -> None:
        for _ in range(2):
            runs.append(pairs_lit.fit(CONFIGS / "fc_aux.yaml", options, [counts]))

    thread = threading.Thread(target=fit_twice)
    if elsewhere:
        thread.start()
        thread.join()
    else:
        fit_twice()
    assert counts.epochs == 6
    for run in tmp_path.glob("lightning_logs/*/*"):
        check_same(run, alone)
    assert len({run.folder for run in runs}) == 2


def build_custom_trainer(root: Path, tiny_root: Path, devices: int) -> tuple[Trainer, PairModule, PairDataModule]:
    runner = RoundRunner(count=4, stack_size=1)
    module = PairModule(seeds=runner.seeds, backbone=FC, head=MLP, stack_size=1)
    data = PairDataModule(
        seeds=runner.seeds, stack_size=1, source="mnist", root=str(tiny_root), allow_unverified=True,
        train_pairs=40, val_pairs=20, test_pairs=30,
    )  # fmt: skip
    trainer = Trainer(
        max_epochs=2, num_sanity_val_steps=0, callbacks=[runner, Results(runner)], accelerator="cpu", devices=devices,
        strategy="stacks", default_root_dir=root, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    return trainer, module, data


@pytest.mark.slow
def test_custom_trainer_ends_with_the_weights_of_all_workers(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    for devices in (1, 3):
        trainer, module, data = build_custom_trainer(tmp_path / str(devices), tiny_root, devices)
        (tmp_path / str(devices)).mkdir()
        trainer.fit(module, data)
        trainer.test(module, data, verbose=False)
        weights.append(module.state_dict())
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    monkeypatch.setattr("pairs_lit.workers.strategy.can_fork", lambda: False)
    with pytest.raises(
        PairsLitError,
        match=r"devices is 2, but the workers of a custom Trainer cannot be new processes\. Set devices=1",
    ):
        build_custom_trainer(tmp_path, tiny_root, 2)


@pytest.mark.slow
def test_run_that_is_being_trained_is_locked(
    order: BuildArguments, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with start_command(order(tmp_path, *LONG_OPTIONS, *worker_options(2)), tmp_path / "said") as process:
        wait_for_checkpoint(tmp_path)
        assert main([*resume_arguments(find_run(tmp_path)), *worker_options(2)]) == 2
        os.kill(process.pid or 0, signal.SIGTERM)
    assert "is being trained by another process" in capfd.readouterr().err


@pytest.mark.slow
def test_two_simultaneous_fits_do_not_interfere(order: BuildArguments, alone: Path, tmp_path: Path) -> None:
    with (
        start_command(order(tmp_path / "1", *worker_options(2)), tmp_path / "said1") as first,
        start_command(order(tmp_path / "2", *worker_options(3)), tmp_path / "said2") as second,
    ):
        pass
    assert (first.exitcode, second.exitcode) == (0, 0)
    for each in ("1", "2"):
        check_same(find_run(tmp_path / each), alone)


@pytest.mark.slow
def test_workers_share_the_images(order: BuildArguments, mnist_root: Path, tmp_path: Path) -> None:
    options = f"--data.root {mnist_root} --data.allow_unverified false --data.image_size 28 --data.train_pairs 1000"
    arguments = order(
        tmp_path, *LONG_OPTIONS, *worker_options(3), *options.split(), "--rounds.count", "3", "--rounds.stack_size", "1"
    )
    with start_command(arguments, tmp_path / "said") as process:
        wait_for_checkpoint(tmp_path)
        _, *others = list_processes(process)
        private, resident = ([_read_megabytes(pid, field) for pid in others] for field in ("Private_\\w+", "Rss"))
        os.kill(process.pid or 0, signal.SIGTERM)
    images = 70_000 * 28 * 28 / 2**20
    assert max(private) < images < min(resident)


def _read_megabytes(pid: int, field: str) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    return sum(map(int, re.findall(rf"{field}:\s+(\d+) kB", text))) / 1024
