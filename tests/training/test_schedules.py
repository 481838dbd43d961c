"""Schedules that step with each step of a round: equality with plain loops, resuming, variants and callbacks."""

import math
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger

import pairs_lit
from pairs_lit.cli import main
from pairs_lit.data.loaders import StackBatch
from pairs_lit.errors import PairsLitError
from pairs_lit.training.optimizers import check_scheduler
from pairs_lit.training.schedules import Stepwise, WarmupCosine
from tests.conftest import Fit
from tests.support import reference_impl
from tests.support.designs import build_two_groups
from tests.support.reference_impl import PlainNetwork
from tests.support.round_fits import BATCH, DESIGN, TEST, TRAIN, VAL, fit_rounds, get_final_values, train
from tests.support.runs import build_checkpoint_arguments
from tests.support.side_by_side import build_config, check_same_bytes, fit_side_by_side
from tests.support.side_by_side import fit_alone as trained_alone

ADAMW = partial(torch.optim.AdamW, lr=0.02, eps=1e-4, weight_decay=0.1)
WARM = "pairs_lit.training.schedules.WarmupCosine"
OPTIONS = ("--model.lr_scheduler", WARM, "--model.lr_scheduler.warmup", "0.3")


def compute_factor(progress: float, warmup: float, final: float = 0.0) -> float:
    """Compute the factor of warm-up and cosine as a user of LambdaLR would."""
    if progress < warmup:
        return progress / warmup
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


class Falling(Stepwise):
    """A custom schedule."""

    def __init__(self, optimizer: torch.optim.Optimizer, power: float = 1.0) -> None:
        self.power = power
        super().__init__(optimizer)

    def factor(self, progress: float) -> float:
        return (1 - progress) ** self.power


class RandomSchedule(Stepwise):
    """A schedule that draws random numbers."""

    def factor(self, progress: float) -> float:
        return float(torch.rand(())) + float(np.random.rand())


class Negative(Stepwise):
    def factor(self, progress: float) -> float:
        return 0.5 - progress


class Broken(Stepwise):
    def factor(self, progress: float) -> float:
        return 1.0 if progress == 0 else [][0]


def build_optimizer(rate: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(3))], lr=rate)


@pytest.mark.parametrize("final", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("warmup", [0.0, 0.15, 0.9])
def test_linear_warm_up_is_followed_by_cosine_decay(warmup: float, final: float) -> None:
    schedule = WarmupCosine(build_optimizer(), warmup, final)
    for progress in np.linspace(0, 1, 41):
        assert schedule.factor(progress) == pytest.approx(compute_factor(progress, warmup, final), abs=1e-12)
    assert schedule.factor(warmup) == 1.0
    assert schedule.factor(1.0) == pytest.approx(final, abs=1e-12)


def test_learning_rates_are_those_of_the_middle_of_each_step() -> None:
    optimizer = build_optimizer(0.5)
    schedule = Falling(optimizer)
    for epoch in (1, 0, 2):
        schedule.begin_epoch(epoch, 3, 4)
        for step in (0, 3, 1, 0):
            schedule.set_step(step)
            assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * (1 - (4 * epoch + step + 0.5) / 12))
            assert schedule.get_last_lr() == [optimizer.param_groups[0]["lr"]]


@pytest.mark.parametrize("decay", ["all", "weights"])
def test_a_fit_equals_plain_loops_with_a_schedule_per_batch(tiny_root: Path, tmp_path: Path, decay: str) -> None:
    schedule = partial(WarmupCosine, warmup=0.4)
    parts: dict[str, Any] = {"optimizer": ADAMW, "lr_scheduler": schedule, "decay": decay}
    module, _, _ = fit_rounds(tiny_root, tmp_path, count=3, seed=5, stack_size=2, **parts)
    steps = 2 * math.ceil(TRAIN / BATCH)
    for place, seed in enumerate([5, 6, 7]):
        stack, r = divmod(place, 2)
        data = reference_impl.draw_round_data(tiny_root, seed, TRAIN, VAL, TEST)
        plain = PlainNetwork(DESIGN, seed).double().use_random_numbers_of(module.pair_stacks[stack], r)
        optimizer = ADAMW(build_two_groups(plain) if decay == "weights" else plain.parameters())
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: compute_factor((step + 0.5) / steps, 0.4))

        def take_step(optimizer: Any = optimizer, schedule: Any = scheduler) -> None:  # noqa: ANN401
            optimizer.step()
            schedule.step()

        train(plain, module.pair_stacks[stack], data, optimizer, take_step)
        for value, expected in zip(get_final_values(module, seed), plain.state_dict().values(), strict=True):
            reference_impl.check_close(value, expected)


def read_tables(run: Path) -> list[bytes]:
    return [(run / name).read_bytes() for name in ("rounds.csv", "curves.csv")]


class RateRecorder(Callback):
    """Records the learning rate of each step, and may raise an error in the second epoch."""

    def __init__(self, *, ends: bool = False) -> None:
        self.ends = ends
        self.rates: dict[tuple[int, int, int], float] = {}

    def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:  # noqa: ANN401
        self.now = optimizer.param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: StackBatch, batch_idx: int
    ) -> None:
        self.rates[trainer.current_epoch, batch.stack, batch.step] = self.now

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.ends and trainer.current_epoch == 1:
            raise RuntimeError("the power failed")


def build_warmup_config(root: Path, folder: Path, **more: object) -> dict[str, Any]:
    content = build_config(root, lr_scheduler={"class_path": WARM, "init_args": {"warmup": 0.3}}, **more)
    content["trainer"] |= {"default_root_dir": str(folder), "devices": 1}
    content["rounds"] = {"count": 3, "stack_size": 2}
    return content


def test_every_stack_has_the_same_learning_rates_and_so_has_a_resumed_fit(tiny_root: Path, tmp_path: Path) -> None:
    expected, first, second = RateRecorder(), RateRecorder(ends=True), RateRecorder()
    content = build_warmup_config(tiny_root, tmp_path, decay="weights", optimizer={"class_path": "torch.optim.AdamW"})
    run = pairs_lit.fit(content, callbacks=[expected])
    steps = {(epoch, stack, step) for epoch in range(3) for stack in range(2) for step in range(3)}
    assert set(expected.rates) == steps
    for (epoch, _, step), rate in expected.rates.items():
        assert rate == pytest.approx(0.001 * compute_factor((3 * epoch + step + 0.5) / 9, 0.3), rel=1e-12)
    with pytest.raises(RuntimeError, match="the power failed"):
        pairs_lit.fit(content, {"name": "broken"}, callbacks=[first])
    (folder,) = tmp_path.glob("lightning_logs/broken/*")
    options = {"ckpt_path": folder / "checkpoints" / "last.ckpt"}
    resumed = pairs_lit.fit(folder / "config.yaml", options, callbacks=[second])
    assert first.rates | second.rates == expected.rates
    assert read_tables(resumed.folder) == read_tables(run.folder)


def test_a_fit_resumed_with_more_epochs_continues_on_the_longer_schedule(fit: Fit) -> None:
    plain = ("--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "0.0")
    run = fit(*OPTIONS, *plain, "--trainer.max_epochs", "1")
    watching = RateRecorder()
    changes = {"ckpt_path": run / "checkpoints" / "last.ckpt", "trainer.max_epochs": 3, "model.optimizer.lr": 0.01}
    pairs_lit.fit(run / "config.yaml", changes, callbacks=[watching])
    for (epoch, _, step), rate in watching.rates.items():
        assert rate == pytest.approx(0.01 * compute_factor((3 * epoch + step + 0.5) / 9, 0.3), rel=1e-12)
    assert {epoch for epoch, *_ in watching.rates} == {1, 2}


def test_a_learning_rate_monitor_logs_the_rate_of_each_epochs_first_step(tiny_root: Path, tmp_path: Path) -> None:
    content = build_warmup_config(tiny_root, tmp_path)
    content["trainer"]["logger"] = {
        "class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(tmp_path / "csv")}
    }  # fmt: skip
    monitor = LearningRateMonitor("epoch")
    logged = list[float]()
    log = CSVLogger.log_metrics

    def log_and_record(self: CSVLogger, metrics: dict[str, float], step: int | None = None) -> None:
        logged.extend(value for name, value in metrics.items() if name.startswith("lr-"))
        log(self, metrics, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CSVLogger, "log_metrics", log_and_record)
        pairs_lit.fit(content, callbacks=[monitor])
    expected = [0.001 * compute_factor((3 * epoch + 0.5) / 9, 0.3) for epoch in range(3)]
    np.testing.assert_allclose(logged, expected, rtol=1e-6)


SCHEDULE = "model.lr_scheduler"
LR = "model.optimizer.init_args.lr"
STEP = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1}}
SIDE_BY_SIDE = {
    "warm-up": [{f"{SCHEDULE}.init_args.warmup": 0.1}, {f"{SCHEDULE}.init_args.warmup": 0.5, LR: 0.01}],
    "kinds": [{LR: 0.01}, {SCHEDULE: STEP}, {SCHEDULE: None}],
    "decay": [{"model.decay": "weights"}, {"model.decay": "all", SCHEDULE: None}, {"model.decay": "weights", LR: 0.01}],
}


@pytest.mark.parametrize("case", ["kinds", pytest.param("warm-up", marks=pytest.mark.slow), "decay"])
@pytest.mark.slow
def test_variants_side_by_side_may_differ_in_schedule_and_decay(case: str, tiny_root: Path, tmp_path: Path) -> None:
    content = build_config(
        tiny_root,
        lr_scheduler={"class_path": WARM, "init_args": {"warmup": 0.3}},
        optimizer={"class_path": "torch.optim.AdamW", "init_args": {"weight_decay": 0.3}},
    )
    variants = SIDE_BY_SIDE[case]
    runs = fit_side_by_side(tmp_path, content, variants)
    for run, changes in zip(runs, variants, strict=True):
        separate = trained_alone(tmp_path, content, changes)
        check_same_bytes(run, separate)
        longer = [
            pairs_lit.fit(
                shorter.folder / "config.yaml",
                {"ckpt_path": shorter.folder / "checkpoints" / "last.ckpt", "trainer.max_epochs": 4},
            )
            for shorter in (run, separate)
        ]
        check_same_bytes(*longer)
    curves = [run.curves.values["train/loss"] for run in runs]
    assert not any(np.array_equal(first, second) for first, second in pairwise(curves))


@pytest.mark.slow
def test_custom_schedules_work_and_random_ones_are_reproducible(fit: Fit) -> None:
    falling = ("--model.lr_scheduler", f"{__name__}.Falling", "--model.lr_scheduler.power", "2")
    assert read_tables(fit(*falling)) != read_tables(fit())
    drawn = ("--model.lr_scheduler", f"{__name__}.RandomSchedule", "--rounds.stack_size", "2")
    first = fit(*drawn)
    assert read_tables(first) == read_tables(fit(*drawn)) == read_tables(fit(*drawn, "--trainer.devices", "2"))


@pytest.mark.slow
def test_workers_and_the_test_command_support_schedules(fit: Fit) -> None:
    options = (*OPTIONS, "--model.decay", "weights", "--rounds.stack_size", "1")
    run = fit(*options)
    assert read_tables(run) == read_tables(fit(*options, "--trainer.devices", "2"))
    assert main(["test", *build_checkpoint_arguments(run)]) == 0


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"warmup": 1.0}, r"WarmupCosine.warmup must be in \[0, 1\), got 1.0"),
        ({"warmup": -0.1}, r"WarmupCosine.warmup must be in \[0, 1\), got -0.1"),
        ({"warmup": math.nan}, r"WarmupCosine.warmup must be in \[0, 1\), got nan"),
        ({"final": 1.5}, r"WarmupCosine.final must be from 0 to 1, got 1.5"),
        ({"final": math.nan}, r"WarmupCosine.final must be from 0 to 1, got nan"),
    ],
)
def test_shares_out_of_range_are_rejected(options: dict[str, float], match: str) -> None:
    with pytest.raises(PairsLitError, match=match):
        WarmupCosine(build_optimizer(), **options)


def test_invalid_factors_are_rejected() -> None:
    with pytest.raises(PairsLitError, match=r"model.lr_scheduler: Negative.factor\(0.625\) must be .*, got -0.125\."):
        Negative(build_optimizer()).begin_epoch(0, 1, 4)
    with pytest.raises(PairsLitError, match=r"model.lr_scheduler: list index out of range"):
        Broken(build_optimizer()).begin_epoch(0, 1, 4)


def test_error_for_a_schedule_that_counts_steps_suggests_another() -> None:
    scheduler = torch.optim.lr_scheduler.OneCycleLR(build_optimizer(), 1.0, 10)
    with pytest.raises(PairsLitError, match=r"OneCycleLR, which would couple .* pairs_lit.training.schedules.WarmupC"):
        check_scheduler(scheduler)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--model.lr_scheduler", WARM, "--model.lr_scheduler.warmup", "2"),
            "WarmupCosine.warmup must be in [0, 1), got 2",
        ),
        (("--model.decay", "biases"), "model.decay"),
    ],
)
def test_the_command_reports_a_short_error(
    options: tuple[str, ...], message: str, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", "--config", "configs/fc.yaml", *tiny_options, "--trainer.default_root_dir", str(tmp_path)]
    assert main([*arguments, *options]) == 2
    captured = capsys.readouterr().err
    assert message in captured
    assert "Traceback" not in captured
    assert not list(tmp_path.glob("lightning_logs/*/*/summary.json"))
