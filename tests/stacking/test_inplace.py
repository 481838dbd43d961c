"""Tests that a network which changes tensors in place gives the same bytes as one that does not."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pairs_lit.cli import main
from pairs_lit.stacking.looped import LoopedCopies
from pairs_lit.stacking.stack import stack
from pairs_lit.stacking.stacked_network import StackedNetwork
from tests.conftest import Fit
from tests.support import inplace_modules
from tests.support.runs import build_checkpoint_arguments, read_tables, run_predict

TINY = ("--data.source", "digits", "--data.train_pairs", "24", "--data.val_pairs", "10", "--data.test_pairs", "20")
STACKED = [
    inplace_modules.Divides,
    inplace_modules.BeginsWithRelu,
    inplace_modules.Blanks,
    inplace_modules.Clamps,
    inplace_modules.RectifiesByFunction,
    inplace_modules.DropsByFunction,
    inplace_modules.Residual,
    inplace_modules.Scales,
]


def fit_and_evaluate(
    fit: Fit, kind: type[inplace_modules.InPlaceBase], writes: bool, capsys: pytest.CaptureFixture[str]
) -> list[Any]:
    """Return the tables of a fit, the output and tables of ``test``, and the predictions."""
    options = (
        "--model.backbone",
        f"tests.support.inplace_modules.{kind.__name__}",
        "--model.backbone.writes",
        str(writes),
    )
    run = fit(*options, *TINY, config="fc_aux")
    results: list[Any] = [*read_tables(run)]
    capsys.readouterr()
    assert main(["test", *build_checkpoint_arguments(run)]) == 0
    results += [capsys.readouterr().out.replace(str(run), "RUN"), *read_tables(run), run_predict(run)]
    assert b"mean,seed_0,seed_1,seed_2" in results[-1]
    return results


@pytest.mark.parametrize("kind", [*STACKED, inplace_modules.WritesIntoView])
@pytest.mark.quick(1)
def test_writing_in_place_does_not_change_any_byte(
    kind: type[inplace_modules.InPlaceBase], fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = StackedNetwork if kind in STACKED else LoopedCopies
    for writes in (True, False):
        assert isinstance(stack(lambda writes=writes: kind((1, 14, 14), writes), [0, 1], [1, 14, 14]), expected)
    assert fit_and_evaluate(fit, kind, True, capsys) == fit_and_evaluate(fit, kind, False, capsys)


@pytest.mark.parametrize("kind", [*STACKED, inplace_modules.WritesIntoView])
def test_only_one_variant_of_each_module_writes_in_place(kind: type[inplace_modules.InPlaceBase]) -> None:
    outputs, written = [], []
    for writes in (True, False):
        with InPlaceCollector() as calls, torch.random.fork_rng():
            torch.manual_seed(0)
            network = kind((1, 14, 14), writes)
            calls.names.clear()
            outputs.append(network(255 * torch.rand(4, 1, 14, 14)))
        written.append(Counter(calls.names))
    assert torch.equal(*outputs)
    assert written[0] - written[1]
    assert not written[1] - written[0]


class InPlaceCollector(TorchDispatchMode):
    """Collects the names of operations that change their first argument in place."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> object:  # noqa: ANN401
        name = func.overloadpacket.__name__
        if name.endswith("_"):
            self.names.append(name)
        return func(*args, **(kwargs or {}))
