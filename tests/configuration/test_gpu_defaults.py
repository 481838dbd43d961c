"""Default stack sizes of commands on GPUs, with stand-ins for the GPUs."""

from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch

from pairs_lit.configuration import cli
from pairs_lit.configuration.cli import PairsCLI, ParseOnlyCLI, run_lightning_command
from pairs_lit.errors import PairsLitError
from tests.conftest import CONFIGS, Fit


class _Builder(ParseOnlyCLI):
    """Command line that builds all objects except for the trainer."""

    instantiate_classes = PairsCLI.instantiate_classes

    def build_objects(self) -> None:
        self.objects = self.parser.instantiate_classes(self.config).fit


def _pretend_two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(cli, "measure_free_memory", lambda gpu: 80e9)


def _get_stack_size(args: Sequence[str], *options: str) -> int:
    built = run_lightning_command("fit", ["fit", *args, *options], kind=_Builder)
    return cast(int, cast(Any, built).objects.model.stack_size)


FC = [f"--config={CONFIGS / 'fc.yaml'}", "--rounds.count=12", "--data.source=digits"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--trainer.accelerator=cpu"], 6),
        (["--trainer.accelerator=gpu"], 6),  # two GPUs, so two stacks
        (["--trainer.accelerator=gpu", "--trainer.devices=1"], 12),
        (["--trainer.accelerator=auto", "--trainer.devices=[1]"], 12),
        (["--trainer.accelerator=cuda", "--trainer.devices=1", "--rounds.stack_size=5"], 5),
    ],
)
def test_all_rounds_of_a_gpu_form_one_stack(options: list[str], expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_two_gpus(monkeypatch)
    assert _get_stack_size(FC, *options) == expected


def test_workers_that_torchrun_started_have_a_stack_each(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_two_gpus(monkeypatch)
    monkeypatch.setattr(cli, "count_started_workers", lambda: 4)
    assert _get_stack_size(FC, "--trainer.accelerator=gpu", "--trainer.devices=1") == 3


def test_memory_limits_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "find_device_type", lambda accelerator: "mps")
    monkeypatch.setattr(cli, "measure_free_memory", lambda gpu: 1e7)
    assert 1 < _get_stack_size([*FC, "--rounds.count=100"], "--trainer.accelerator=mps") < 50


def test_a_checkpoint_of_a_cpu_keeps_its_stacks_on_a_gpu(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fit("--rounds.count", "4", "--trainer.max_epochs", "1", config="fc")
    _pretend_two_gpus(monkeypatch)
    arguments = [f"--config={run / 'config.yaml'}", "--trainer.accelerator=gpu", "--trainer.devices=1"]
    assert _get_stack_size(arguments) == 4
    assert _get_stack_size(arguments, f"--ckpt_path={run / 'checkpoints/last.ckpt'}") == 2


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_reported_by_the_trainer() -> None:
    with pytest.raises(PairsLitError, match="trainer: No supported gpu backend found"):
        run_lightning_command("fit", ["fit", *FC, "--trainer.accelerator=gpu"])
