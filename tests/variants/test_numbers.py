"""Variants that are read from an earlier one are those that reading the whole configuration gives."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import torch
from lightning.pytorch.cli import ArgsType, LightningArgumentParser
from torch import nn

from pairs_lit.runs.shipped_configs import list_shipped_configs
from pairs_lit.variants.numbers import is_number
from pairs_lit.variants.plans import VariantPlan
from pairs_lit.variants.reading import VariantReader, _ReadingCLI
from tests.support.sweeps import ALPHA, LR

SGD, ADAM = "torch.optim.SGD", "torch.optim.Adam"
WIDTHS, CHANNELS, DROPOUT = (f"model.backbone.init_args.{name}" for name in ("widths", "channels", "dropout"))
GAMMA = "model.lr_scheduler.init_args.gamma"
STEP = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 2, "gamma": 0.5}}
RESNET = "torchvision.models.resnet18"
STOPPING = {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {"monitor": "val/loss/mean"}}

CHANGES: dict[str, list[dict[str, Any]]] = {
    "float": [{LR: 0.1}, {LR: 0.02}, {LR: 1}, {LR: 1e-5}, {LR: -1.0}, {LR: True}, {LR: [0.1]}],
    "text": [{LR: 0.1}, {LR: "1e-3"}, {LR: "2e-3"}, {LR: "much"}, {LR: None}, {LR: float("nan")}, {LR: "~"}],
    "weight": [{ALPHA: 0.5}, {ALPHA: 0.7}, {ALPHA: 2}, {ALPHA: 0}, {ALPHA: -1.0}, {ALPHA: False}, {ALPHA: "1e-1"}],
    "nothing to train": [{ALPHA: 0.5, "model.loss.target_weight": 1.0}, {ALPHA: 0, "model.loss.target_weight": 0.0}],
    "smoothing": [{"model.loss.label_smoothing": value} for value in (0.1, 0.2, 0.0, 1.0, 1)],
    "literal": [{"model.loss.digits": value} for value in ("ce", "mse", "none", "other")],
    "decay": [{"model.optimizer.init_args.weight_decay": 0.1, "model.decay": value} for value in ("all", "weights")],
    "list": [{"model.optimizer.init_args.betas": value} for value in ([0.9, 0.99], [0.8, 0.9], [0.8], [2.0, 1], 0.5)],
    "flag": [{"model.optimizer.init_args.nesterov": value} for value in (False, True, 1)],
    "short name": [{"model.optimizer.lr": value} for value in (0.1, 0.2, -1)],
    "two names": [{"model.optimizer.lr": value, LR: 0.3} for value in (0.1, 0.2)],
    "class": [{"model.optimizer": kind, LR: value} for kind in (SGD, ADAM) for value in (0.1, 0.2)],
    "replaced by a class": [
        {LR: value, "model.optimizer": {"class_path": SGD, "init_args": {"lr": 0.5}}} for value in (0.1, 0.2)
    ],
    "replaced by a section": [{"data.batch_size": value, "data": '{"batch_size": 7}'} for value in (10, 20)],
    "schedule": [{"model.lr_scheduler": STEP, GAMMA: value} for value in (0.1, 0.2, 1, "x")],
    "no schedule": [{GAMMA: 0.1}, {GAMMA: 0.2}],
    "widths": [{WIDTHS: value} for value in ([8, 10], [12, 10], [12, 9], [], [0, 10], ["a"])],
    "channels": [{CHANNELS: value} for value in ([4, 4], [8, 4], [4.5, 4])],
    "dropout": [{DROPOUT: value} for value in (0.1, 0.3, 1, 1.5)],
    "head": [{"model.head.init_args.hidden": value} for value in ([4], [8], [8, 8], 3)],
    "whole backbone": [{"model.backbone": {"class_path": "FC", "init_args": {"widths": [w, 10]}}} for w in (8, 9)],
    "factory": [{"model.backbone": RESNET, "model.backbone.num_classes": value} for value in (10, 12, 10)],
    "channels of a factory": [
        {"model.backbone": RESNET, "model.backbone.num_classes": 10, "model.backbone.channels": value}
        for value in (3, 1, 0)
    ],
    "members": [{"model.members": value} for value in (1, 2, 0)],
    "data": [{"data.batch_size": value} for value in (10, 20, 0, 2.5)],
    "evaluated pairs": [{"data.eval_batch_size": value, "data.test_pairs": 3} for value in (7, 8, 0, 10**9)],
    "too many pairs": [{"data.train_pairs": value} for value in (10, 10**8, 10**9)],
    "class names": [{"data.class_names": value} for value in ([*range(10)], [*range(9, -1, -1)], [1, 2])],
    "augmented": [{"data.augment": {"rotation": 5}, "data.batch_size": value} for value in (10, 20, 0)],
    "pairs": [{"data.train_pairs": value, "data.reuse": value > 20} for value in (10, 30, -1)],
    "linked": [{"data.image_size": value} for value in (14, 7, 28, 13)],
    "linked text": [{"data.relation": value, "data.batch_size": 10} for value in ("le", "gt", "eq")],
    "linked rounds": [{"rounds.stack_size": value} for value in (2, 3, 0)],
    "dataset": [{"data.source.split": value} for value in (1, 2)],
    "nullable": [{"data.resize": value} for value in (28, 14, None, 0)],
    "rounds": [{"rounds.count": value, "rounds.seed": 3} for value in (2, 4, 0)],
    "epochs": [{"trainer.max_epochs": value} for value in (2, 3, -1, 0.5, "2")],
    "precision": [{"trainer.precision": value} for value in (32, "32-true", 16, 31)],
    "trainer": [{"trainer.gradient_clip_val": value, "trainer.fast_dev_run": False} for value in (0.5, 1, "x")],
    "callbacks": [{"trainer.callbacks": [STOPPING], ALPHA: value} for value in (0.1, 0.2)],
    "logger": [{"trainer.logger": value} for value in (False, True)],
    "unknown": [{"model.loss.alpha": value} for value in (1, 2)],
    "several": [
        {ALPHA: alpha, LR: lr, WIDTHS: widths, "rounds.count": 2, "name": "trial", "print_stack": False}
        for alpha, lr, widths in ((0.1, 0.1, [8, 10]), (0.2, 0.2, [8, 10]), (0.2, 0.3, [9, 10]), (-1, 0.3, [9, 10]))
    ],
    "global seed": [{"seed_everything": value} for value in (False, True, 1)],
}
"""Changed options of variants by what they change; the first of each kind is read first."""


@cache
def get_reader(config: str, role: str) -> VariantReader:
    """Return a reader of a config, with options on the command line, for one role in the comparison."""
    return VariantReader(
        [f"--config={config}", "--data.source=digits", "--trainer.max_epochs=4", "--model.loss.aux_weight=1"]
    )


def read_whole(config: str, changes: Mapping[str, object]) -> VariantPlan | Exception:
    """Read a variant by parsing the whole configuration."""
    reader = get_reader(config, "whole")
    reader._cli._parsed.clear()
    (plan,) = reader.try_variants([changes])
    return plan


def describe(plan: VariantPlan | Exception) -> list[object]:
    """Return everything that a plan says, with the objects that its factories build."""
    if isinstance(plan, Exception):
        return [type(plan), str(plan)]
    variant = plan.variant
    optimizer = variant.recipe.optimizer([nn.Parameter(torch.zeros(2, 2))])
    schedule = variant.recipe.build_schedule(optimizer)
    state = {} if schedule is None else schedule.state_dict()
    network = variant.architecture.build(0)
    return [
        *(dict(plan.changes), plan.config, list(plan.options.items()), plan.group_key, plan.recipe_key),
        *(list(plan.metrics), plan.has_user_callbacks, variant.loss, variant.recipe.decay, variant.views),
        *(repr(optimizer), repr(state), repr(network), variant.architecture.describe(network)),
        [value.sum().item() for value in network.parameters()],
    ]


def describe_or_error(plan: VariantPlan | Exception) -> list[object]:
    """Return the description of a plan, or the error of its factories, which may come only when they are called."""
    try:
        return describe(plan)
    except Exception as error:
        return [type(error), str(error)]


@pytest.mark.quick(12)
@pytest.mark.parametrize("kind", CHANGES)
def test_reading_numbers_is_reading_the_whole_configuration(kind: str) -> None:
    check_readings("fc_aux", kind)


@pytest.mark.quick(2)
@pytest.mark.parametrize("kind", ["weight", "data", "several"])
@pytest.mark.parametrize("config", list_shipped_configs())
def test_every_config_is_read_alike(config: str, kind: str) -> None:
    check_readings(config, kind)


def check_readings(config: str, kind: str) -> None:
    """Compare the plans of a reader with those that parsing the whole configuration gives."""
    reader = get_reader(config, "numbers")
    reader._cli._parsed.clear()
    for changes, plan in zip(CHANGES[kind], reader.try_variants(CHANGES[kind]), strict=True):
        assert repr(describe_or_error(plan)) == repr(describe_or_error(read_whole(config, changes))), changes


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A list of the command lines that were parsed."""
    commands: list[object] = []
    original = _ReadingCLI.parse_arguments

    def parse(self: _ReadingCLI, parser: LightningArgumentParser, args: ArgsType) -> None:
        commands.append(args)
        original(self, parser, args)

    monkeypatch.setattr(_ReadingCLI, "parse_arguments", parse)
    return commands


@pytest.mark.parametrize(
    "variants",
    [
        [{ALPHA: 0.1 * number, LR: 0.01 * number, "rounds.seed": 0, "name": "trial"} for number in range(1, 9)],
        [{"model.lr_scheduler": STEP, GAMMA: 0.1 * number} for number in range(1, 9)],
        [{"trainer.max_epochs": number} for number in range(1, 9)],
        [{"data.batch_size": number} for number in range(1, 9)],
        [{WIDTHS: [number, 10]} for number in range(1, 9)],
    ],
)
def test_numbers_do_not_parse_the_whole_configuration_again(
    variants: list[dict[str, object]], parsed: list[object]
) -> None:
    plans = VariantReader(["--config=fc_aux", "--data.source=digits"]).read_variants(variants)
    assert [plan.changes for plan in plans] == variants
    assert len({plan.config for plan in plans}) == len(variants)
    assert len(parsed) == 2  # the base and the first variant


def test_training_settings_do_not_build_the_network_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = VariantReader(["--config=fc_aux", "--data.source=digits"])
    reader.read_variants([{ALPHA: 0.1, LR: 0.1, "data.batch_size": 10}])
    monkeypatch.setattr(_ReadingCLI, "_instantiate", None)
    monkeypatch.setattr(_ReadingCLI, "_dump", None)
    (plan,) = reader.read_variants([{ALPHA: 0.2, LR: 0.2, "data.batch_size": 20}])
    assert plan.options["data.batch_size"] == 20
    assert plan.variant.loss.aux_weight == plan.options[ALPHA] == 0.2
    assert plan.variant.recipe.optimizer([nn.Parameter(torch.zeros(1))]).defaults["lr"] == plan.options[LR] == 0.2


@pytest.mark.parametrize("value", [0, -1.5, True, [1, 2.5], [[1], [2]], (1, 2)])
def test_numbers(value: object) -> None:
    assert is_number(value)


@pytest.mark.parametrize("value", ["1", None, {}, [], ["1"], [1, None], float("inf"), float("nan"), int])
def test_other_values_are_not_numbers(value: object) -> None:
    assert not is_number(value)
