"""Variants that train side by side give the same results as separate fits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback

import pairs_lit
from pairs_lit import Run
from pairs_lit.variants.fits import fit_variants, group_into_fits
from pairs_lit.variants.reading import read_variants
from tests.support.side_by_side import (
    FC,
    ROUNDS,
    SAME_SPLIT_SIZE,
    build_config,
    check_same_bytes,
    fit_alone,
    fit_side_by_side,
)

ONE_STACK_SIZE = 12
"""A stack size that puts all slices into one stack, while a separate fit has a stack of 6, so rounding differs."""


CNN = {"class_path": "pairs_lit.nn.backbones.CNN", "init_args": {"channels": [4, 4], "conv_dropout": 0.2}}


def build_optimizer_config(name: str, **settings_: object) -> dict[str, Any]:
    return {"class_path": f"torch.optim.{name}", "init_args": settings_}


def check_close(run: Run, separate: Run) -> None:
    """Compare the run of a variant with its separate fit, up to rounding; accuracies are over 20 or 40 pairs."""
    assert run.failed == separate.failed
    for name, values in separate.curves.values.items():
        tolerance = 0.06 if name.endswith("accuracy") else 2e-3
        np.testing.assert_allclose(run.curves.values[name], values, rtol=2e-3, atol=tolerance)


CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "aux_weight": ({}, [{"model.loss.aux_weight": 0.1}, {"model.loss.aux_weight": 2.0}]),
    "target_weight": ({}, [{"model.loss.target_weight": 0.3}, {"model.loss.target_weight": 1.7}]),
    "label_smoothing": (
        {},
        [{"model.loss.label_smoothing": 0.05}, {"model.loss.label_smoothing": 0.3}],
    ),
    "lr": ({}, [{"model.optimizer.init_args.lr": 0.001}, {"model.optimizer.init_args.lr": 0.03}]),
    "betas": (
        {},
        [{"model.optimizer.init_args.betas": [0.9, 0.999]}, {"model.optimizer.init_args.betas": [0.5, 0.9]}],
    ),
    "eps": ({}, [{"model.optimizer.init_args.eps": 1e-8}, {"model.optimizer.init_args.eps": 0.01}]),
    "weight_decay": (
        {},
        [{"model.optimizer.init_args.weight_decay": 0}, {"model.optimizer.init_args.weight_decay": 0.1}],
    ),
    "momentum": (
        {"optimizer": build_optimizer_config("SGD", lr=0.05)},
        [{"model.optimizer.init_args.momentum": 0.0}, {"model.optimizer.init_args.momentum": 0.9}],
    ),
    "FC's dropout": (
        {"backbone": {**FC, "init_args": {"widths": [8, 10], "dropout": 0.1}}},
        [{"model.backbone.init_args.dropout": 0.1}, {"model.backbone.init_args.dropout": 0.6}],
    ),
    "CNN's dropout": (
        {"backbone": CNN},
        [{"model.backbone.init_args.conv_dropout": 0.1}, {"model.backbone.init_args.conv_dropout": 0.5}],
    ),
    "schedule": (
        {"lr_scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1}}},
        [{"model.lr_scheduler.init_args.gamma": 0.1}, {"model.lr_scheduler.init_args.gamma": 0.9}],
    ),
    "several": (
        {"backbone": CNN, "readout": "linear"},
        [
            {"model.loss.aux_weight": 0.2, "model.optimizer.init_args.lr": 0.01},
            {"model.loss.aux_weight": 1.0, "model.optimizer.init_args.lr": 0.002},
        ],
    ),
    "a module in a loop": (
        {"backbone": {"class_path": "tests.support.user_parts.Branching"}},
        [{"model.optimizer.init_args.lr": 0.001}, {"model.optimizer.init_args.lr": 0.03}],
    ),
    "two branches": (
        {"sharing": "separate"},
        [{"model.optimizer.init_args.lr": 0.001}, {"model.optimizer.init_args.lr": 0.03}],
    ),
    "members": (
        {"members": 2, "sharing": "separate"},
        [
            {"model.loss.aux_weight": 0.2, "model.optimizer.init_args.lr": 0.01},
            {"model.loss.aux_weight": 1.0, "model.optimizer.init_args.lr": 0.002},
        ],
    ),
    "views": (
        {"views": [{}, {"rotation": 20}]},
        [{"model.loss.aux_weight": 0.2}, {"model.loss.aux_weight": 1.0}],
    ),
    "members in a loop": (
        {"members": 2, "backbone": {"class_path": "tests.support.user_parts.Branching"}},
        [{"model.optimizer.init_args.lr": 0.001}, {"model.optimizer.init_args.lr": 0.03}],
    ),
} | {
    f"{name}'s lr": (
        {"optimizer": build_optimizer_config(name, lr=0.01)},
        [{"model.optimizer.init_args.lr": 0.001}, {"model.optimizer.init_args.lr": 0.02}],
    )
    for name in ("SGD", "AdamW", "NAdam", "RAdam", "RMSprop", "Adagrad")
}


QUICK = {"aux_weight", "lr", "momentum", "CNN's dropout", "schedule", "a module in a loop", "members"}


@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
@pytest.mark.quick(2)
def test_runs_side_by_side_equal_separate_fits(case: str, tiny_root: Path, tmp_path: Path) -> None:
    parts, variants = CASES[case]
    content = build_config(tiny_root, **parts)
    runs = fit_side_by_side(tmp_path, content, variants)
    one_stack_runs = fit_side_by_side(tmp_path / "one_stack", content, variants, ONE_STACK_SIZE)
    for run, one_stack_run, changes in zip(runs, one_stack_runs, variants, strict=True):
        separate = fit_alone(tmp_path, content, changes)
        check_same_bytes(run, separate)
        check_close(one_stack_run, separate)
    first, second = (run.curves.values["train/loss"] for run in runs)
    assert not np.array_equal(first, second)  # the varied option has an effect


@pytest.mark.parametrize("size", [SAME_SPLIT_SIZE, ONE_STACK_SIZE])
@pytest.mark.parametrize(
    "case",
    [
        "several",
        *(pytest.param(case, marks=pytest.mark.slow) for case in ("momentum", "a module in a loop", "two branches")),
    ],
)
@pytest.mark.slow
def test_the_run_of_a_variant_can_be_resumed(case: str, size: int, tiny_root: Path, tmp_path: Path) -> None:
    parts, variants = CASES[case]
    content = build_config(tiny_root, **parts)
    for run, changes in zip(fit_side_by_side(tmp_path, content, variants, size), variants, strict=True):
        longer = pairs_lit.fit(
            run.folder / "config.yaml",
            {"ckpt_path": run.folder / "checkpoints" / "last.ckpt", "trainer.max_epochs": 5},
        )
        separate = fit_alone(tmp_path, content, changes | {"trainer.max_epochs": 5})
        (check_same_bytes if size == SAME_SPLIT_SIZE else check_close)(longer, separate)
        assert longer.folder == run.folder
        assert longer.curves.epochs == 5


def test_a_variant_that_diverges_does_not_affect_others(tiny_root: Path, tmp_path: Path) -> None:
    content = build_config(tiny_root, optimizer=build_optimizer_config("SGD", lr=0.01))
    variants = [{"model.optimizer.init_args.lr": 1e30}, {"model.optimizer.init_args.lr": 0.01}]
    broken, sound = fit_side_by_side(tmp_path, content, variants)
    assert broken.failed == list(range(ROUNDS))
    assert sound.failed == []
    separate = fit_alone(tmp_path, content, variants[1])
    check_same_bytes(sound, separate)
    broken, sound = fit_side_by_side(tmp_path / "one_stack", content, variants, ONE_STACK_SIZE)
    assert broken.failed == list(range(ROUNDS))
    check_close(sound, separate)


class InterruptingCallback(Callback):
    """Ends a fit in its second epoch."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("the power failed")


@pytest.mark.slow
def test_an_interrupted_fit_of_variants_is_resumed(tiny_root: Path, tmp_path: Path) -> None:
    content = build_config(tiny_root, optimizer=build_optimizer_config("SGD", lr=0.05))
    variants = CASES["momentum"][1]
    uninterrupted = fit_side_by_side(tmp_path, content, variants)
    base = [f"--config={tmp_path / 'base.yaml'}"]
    rounds = {"rounds.count": ROUNDS, "rounds.stack_size": SAME_SPLIT_SIZE}
    plans = read_variants(base, [rounds | changes for changes in variants])
    folders = [tmp_path / "again" / str(number) for number in range(2)]
    with pytest.raises(RuntimeError, match="the power failed"):
        fit_variants(base, plans, folders, tmp_path / "work", [InterruptingCallback()])
    assert not (tmp_path / "again").exists()
    starts: list[int] = []
    fit_variants(
        base,
        plans,
        folders,
        tmp_path / "work",
        [LambdaCallback(on_train_start=lambda t, _: starts.append(t.current_epoch))],
    )
    assert starts == [1]
    assert not list((tmp_path / "work").rglob("*.ckpt"))
    for folder, run in zip(folders, uninterrupted, strict=True):
        for file in ("rounds.csv", "curves.csv"):
            assert (folder / file).read_bytes() == (run.folder / file).read_bytes()


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(tiny_root: Path, tmp_path: Path) -> None:
    content = build_config(tiny_root)
    variants = CASES["several"][1]
    runs = [
        fit_side_by_side(tmp_path / str(count), content, variants, **{"trainer.devices": count}) for count in (1, 2)
    ]
    for pair in zip(*runs, strict=True):
        first, second = (run.folder for run in pair)
        for file in ("rounds.csv", "curves.csv"):
            assert (first / file).read_bytes() == (second / file).read_bytes()
        weights = [torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True) for run in pair]
        assert all(
            torch.equal(value, weights[1]["state_dict"][name]) for name, value in weights[0]["state_dict"].items()
        )


@pytest.mark.parametrize(
    ("parts", "variants"),
    [
        ({}, [{"model.backbone.init_args.widths": [8, 10]}, {"model.backbone.init_args.widths": [12, 10]}]),
        ({}, [{"data.batch_size": 16}, {"data.batch_size": 20}]),
        ({}, [{"trainer.max_epochs": 2}, {"trainer.max_epochs": 3}]),
        ({}, [{"data.train_pairs": 40}, {"data.train_pairs": 30}]),
        ({}, [{"model.loss.aux_weight": 0.0}, {"model.loss.aux_weight": 1.0}]),
        ({}, [{"model.loss.label_smoothing": 0.0}, {"model.loss.label_smoothing": 0.1}]),
        ({}, [{"model.loss.digits": "mse"}, {"model.loss.digits": "ce"}]),
        ({}, [{"model.optimizer.init_args.amsgrad": True}, {"model.optimizer.init_args.amsgrad": False}]),
        ({}, [{"model.backbone.init_args.dropout": 0.0}, {"model.backbone.init_args.dropout": 0.2}]),
        ({}, [{"model.optimizer": "torch.optim.SGD"}, {"model.optimizer": "torch.optim.Adam"}]),
        ({}, [{"model.sharing": "separate"}, {"model.sharing": "shared"}]),
        (
            {"backbone": {"class_path": "tests.support.user_parts.Scaled"}},
            [{"model.backbone.init_args.scale": 1.0}, {"model.backbone.init_args.scale": 2.0}],
        ),
    ],
)
@pytest.mark.quick(2)
def test_variants_that_cannot_share_a_stack_are_separate_fits(
    parts: dict[str, Any], variants: list[dict[str, Any]], tiny_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(build_config(tiny_root, **parts)))
    plans = read_variants([f"--config={tmp_path / 'base.yaml'}"], variants)
    assert group_into_fits(plans) == [[0], [1]]


@pytest.mark.slow
@settings(max_examples=4, deadline=None)
@given(
    rates=st.lists(st.floats(1e-4, 0.3), min_size=2, max_size=4),
    weights=st.lists(st.floats(0.01, 3.0), min_size=4, max_size=4),
    decays=st.lists(st.floats(0.0, 0.1), min_size=4, max_size=4),
)
def test_any_mixture_of_variants(
    rates: list[float],
    weights: list[float],
    decays: list[float],
    tiny_root: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tmp_path = tmp_path_factory.mktemp("mixture")
    content = build_config(tiny_root)
    variants = [
        {
            "model.optimizer.init_args.lr": rate,
            "model.loss.aux_weight": weight,
            "model.optimizer.init_args.weight_decay": decay,
        }
        for rate, weight, decay in zip(rates, weights, decays, strict=False)
    ]
    runs = fit_side_by_side(tmp_path, content, variants)
    one_stack_runs = fit_side_by_side(tmp_path / "one_stack", content, variants, 24)
    for run, one_stack_run, changes in zip(runs, one_stack_runs, variants, strict=True):
        separate = fit_alone(tmp_path, content, changes)
        check_same_bytes(run, separate)
        check_close(one_stack_run, separate)
