"""Steps on a GPU: all tensors stay there, in types that every GPU has, and one transfer brings back an epoch's metrics.

Torch's meta device takes the place of the GPU, so these tests need none.
"""

from pathlib import Path

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from pairs_lit.training.final_evaluation import evaluate_all_pairs, evaluate_drawn_pairs
from tests.conftest import CONFIGS
from tests.support.meta_device import DeviceWatch, build_parts, build_trainer, watch_epoch
from tests.support.shipped import RUNNABLE

SMALL = {
    "data__source": "digits",
    "data__train_pairs": 40,
    "data__val_pairs": 20,
    "data__test_pairs": 20,
    "data__batch_size": 20,
    "data__eval_batch_size": 20,
    "rounds__count": 3,
    "rounds__stack_size": 3,
}


def _get_name(path: Path) -> str:
    return path.relative_to(CONFIGS).with_suffix("").as_posix()


def _watch(config: Path, root: Path, **options: object) -> DeviceWatch:
    return watch_epoch(build_parts(config, **SMALL | options), root)


NAMES = [
    "fc",
    "cnn_aux",
    "reports/gardoni/ws_aux_bn",  # batch norm
    "reports/gardoni/ws_aux_bn_drop",  # dropout
    "reports/grall/b_classes_ce",  # digit head
    "record",  # augmentation
]
CONFIGURATIONS = [CONFIGS / f"{name}.yaml" for name in NAMES]
OTHERS = [pytest.param(path, marks=pytest.mark.slow) for path in RUNNABLE if path not in CONFIGURATIONS]


@pytest.mark.parametrize("config", [*CONFIGURATIONS, *OTHERS], ids=_get_name)
def test_an_epoch_stays_on_the_device_until_its_metrics_are_copied_once(config: Path, tmp_path: Path) -> None:
    watch = _watch(config, tmp_path)
    assert sum(watch.calls.values()) > 100
    assert not watch.on_cpu
    assert not watch.float64
    assert not watch.synchronising
    (metrics,) = watch.to_cpu
    assert metrics.numel() % (5 * 3) == 0  # five values of each of three rounds, in some batches


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=_get_name)
@pytest.mark.quick(3)
def test_neither_operators_nor_copies_grow_with_the_rounds(config: Path, tmp_path: Path) -> None:
    few, many = (_watch(config, tmp_path, rounds__count=count, rounds__stack_size=count) for count in (2, 9))
    assert few.calls == many.calls
    assert len(few.to_device) == len(many.to_device)


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=_get_name)
@pytest.mark.quick(3)
def test_copies_to_the_device_do_not_grow_with_the_steps(config: Path, tmp_path: Path) -> None:
    few, many = (_watch(config, tmp_path, data__batch_size=size) for size in (20, 5))
    assert sum(many.calls.values()) > 1.5 * sum(few.calls.values())
    assert many.to_device == few.to_device
    assert len(many.to_cpu) == 1


class FinalEvaluation(Callback):
    """Evaluates drawn pairs and all pairs, as at the end of a fit, and watches this and the test before it."""

    def __init__(self) -> None:
        self.watch = DeviceWatch()

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.watch.__enter__()

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        evaluate_drawn_pairs(trainer, pl_module)
        evaluate_all_pairs(trainer, pl_module, ["val", "test"])
        self.watch.__exit__(None, None, None)


EVALUATED: dict[str, dict[str, object]] = {
    "fc": {"model__views": "standard"},
    "cnn_aux": {"model__members": 2, "data__normalise": "standard"},
    "reports/grall/b_classes_ce": {"model__members": 2, "model__views": "[{}, {rotation: 6}]"},
    "reports/gardoni/ws_aux_bn": {},
}


@pytest.mark.parametrize("name", EVALUATED)
def test_evaluations_stay_on_the_device(name: str, tmp_path: Path) -> None:
    options = SMALL | {"data__eval_batch_size": 100_000} | EVALUATED[name]  # few batches of all pairs
    runner, module, data = build_parts(CONFIGS / f"{name}.yaml", **options)
    evaluation = FinalEvaluation()
    with DeviceWatch():
        build_trainer(tmp_path, [runner, evaluation]).test(module, data, verbose=False)
    assert evaluation.watch.to_cpu
    assert not evaluation.watch.float64
    assert not evaluation.watch.synchronising
