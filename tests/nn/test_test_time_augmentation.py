"""Tests of test-time augmentation, which applies to final metrics but not to training and curves."""

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import pairs_lit
from pairs_lit.cli import main
from pairs_lit.data.loaders import StackBatch
from pairs_lit.data.warps import Warp, build_standard_warps, compute_enlarging_matrix, enlarge_images, warp_images
from pairs_lit.errors import PairsLitError
from pairs_lit.nn.ensemble import average_outputs
from pairs_lit.nn.heads import MLP, SoftmaxHead
from pairs_lit.nn.test_time_augmentation import Views
from pairs_lit.training.module import PairModule
from tests.support.designs import TINY_FC
from tests.support.small_runs import SMALL, fit_small


def draw_images(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(3))


def compute_cubic(x: float, a: float = -0.75) -> float:
    """Return Keys' cubic convolution kernel at x."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def warp_by_loops(large: np.ndarray, warp: Warp) -> np.ndarray:
    """Warp an image of 2S×2S pixel by pixel, by the documented formulas, then average blocks of 2×2 pixels."""
    side, angle = len(large), math.radians(warp.rotation)
    moved = np.zeros_like(large)
    for row in range(side):
        for column in range(side):
            x, y = column + 0.5 - side / 2 - warp.shift_x * side, row + 0.5 - side / 2 - warp.shift_y * side
            x, y = math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y
            x = x + warp.shear * y
            x, y = x / warp.scale_x + side / 2 - 0.5, y / warp.scale_y + side / 2 - 0.5
            for i in range(math.floor(y) - 1, math.floor(y) + 3):
                for j in range(math.floor(x) - 1, math.floor(x) + 3):
                    value = large[min(max(i, 0), side - 1), min(max(j, 0), side - 1)]
                    moved[row, column] += compute_cubic(y - i) * compute_cubic(x - j) * value
    return moved.reshape(side // 2, 2, side // 2, 2).mean((1, 3))


@pytest.mark.parametrize("warp", [*build_standard_warps(), Warp(0.1, -0.2, 30, 0.3, 0.8, 1.3)], ids=str)
def test_views_equal_warps_by_plain_loops(warp: Warp) -> None:
    image = draw_images(1, 6, 6)
    expected = warp_by_loops(enlarge_images(image)[0].numpy(), warp)
    np.testing.assert_allclose(warp_images(enlarge_images(image), warp.theta)[0].numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(Views([warp], 6).double()(image)[0, 0].numpy(), expected, atol=2e-6)


def measure_shift(**numbers: float) -> list[float]:
    """Return the shift, in pixels down and right, of a dot that is 5 pixels above the centre of a 21×21 image."""
    image = torch.zeros(1, 21, 21, dtype=torch.float64)
    image[0, 5, 10] = 1
    view, places = warp_images(enlarge_images(image), Warp(**numbers).theta)[0], torch.arange(21, dtype=torch.float64)
    row, column = (view.sum(1) @ places / view.sum()).item(), (view.sum(0) @ places / view.sum()).item()
    return [row - 5, column - 10]


def test_warps_move_images_in_the_documented_direction() -> None:
    assert measure_shift(shift_x=1 / 21) == pytest.approx([0, 1], abs=0.05)
    assert measure_shift(shift_y=1 / 21) == pytest.approx([1, 0], abs=0.05)
    assert measure_shift(shear=0.3) == pytest.approx([0, 1.5], abs=0.1)
    angle = math.radians(20)  # counter-clockwise, so the dot above the centre moves left
    assert measure_shift(rotation=20) == pytest.approx([5 - 5 * math.cos(angle), -5 * math.sin(angle)], abs=0.1)
    assert measure_shift(scale_y=0.8) == pytest.approx([1, 0], abs=0.1)
    assert measure_shift(scale_x=0.8) == pytest.approx([0, 0], abs=0.05)


def test_average_pooling_restores_an_enlarged_image() -> None:
    small = draw_images(5, 14, 10)
    torch.testing.assert_close(F.avg_pool2d(enlarge_images(small), 2), small, atol=1e-12, rtol=0)
    plain = small.unsqueeze(1)
    large = F.interpolate(plain, scale_factor=2, mode="bicubic")
    for _ in range(60):  # iterated back-projection, which converges to the enlarged image
        large = large + F.interpolate(plain - F.avg_pool2d(large, 2), scale_factor=2, mode="bicubic")
    torch.testing.assert_close(enlarge_images(small), large.squeeze(1), atol=1e-9, rtol=0)
    torch.testing.assert_close(compute_enlarging_matrix(7).sum(1), torch.ones(14, dtype=torch.float64))


@pytest.mark.parametrize("size", [1, 2, 4, 7, 14, 40])
def test_views_commute_with_normalisation(size: int) -> None:
    batch, views = draw_images(3, 2, size, size), Views(build_standard_warps(), size).double()
    warped_batch = views(batch)
    assert warped_batch.shape == (13, 3, 2, size, size)
    assert torch.equal(warped_batch[0], batch)
    mean, std = draw_images(3, 1, 1, 1), 0.5 + draw_images(3, 1, 1, 1)
    torch.testing.assert_close(views((batch - mean) / std), (warped_batch - mean) / std, atol=1e-5, rtol=0)


def test_tables_and_direct_warps_agree() -> None:
    batch, views = draw_images(4, 14, 14), Views(build_standard_warps(), 14).double()
    by_tables = views(batch)
    views._has_tables = False
    torch.testing.assert_close(views(batch), by_tables, atol=1e-5, rtol=0)


def test_views_are_computed_in_float32_under_autocast() -> None:
    batch, views = draw_images(4, 14, 14, dtype=torch.float32), Views(build_standard_warps(), 14)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(views(batch), Views(build_standard_warps(), 14)(batch))
    assert views(batch.bfloat16()).dtype is torch.bfloat16


def build_module(**options: Any) -> PairModule:  # noqa: ANN401 - any option
    return PairModule(seeds=[5, 2], **{"backbone": TINY_FC, "head": MLP, "readout": "identity"} | options)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("head", [MLP, SoftmaxHead])
def test_predictions_are_means_over_views_and_members(members: int, head: Any) -> None:  # noqa: ANN401 - a factory
    network = build_module(views="standard", members=members, head=head).eval()
    pairs = draw_images(2, 6, 2, 14, 14, dtype=torch.float32)
    zeros = torch.zeros(2, 6, 2, dtype=torch.int64)
    batch = StackBatch(0, "val", 0, pairs, zeros, zeros[..., 0])
    outputs = [network.pair_stacks[0](view) for view in Views(build_standard_warps(), 14)(pairs)]
    digits = torch.stack([output.digit_logits.softmax(-1) for output in outputs])
    digits = digits.view(-1, 2, members, 6, 2, 10).mean((0, 2))
    prediction = network.predict_batch(batch)
    torch.testing.assert_close(prediction.digit_logits.exp(), digits)
    if head is MLP:
        expected = torch.stack([output.output.sigmoid().view(2, members, 6) for output in outputs]).mean((0, 2))
    else:
        products = [digits[:, :, 0, i] * digits[:, :, 1, j] for i in range(10) for j in range(i, 10)]
        expected = torch.stack(products).sum(0)
    torch.testing.assert_close(prediction.get_probability(), expected)
    torch.testing.assert_close(network(pairs), expected)
    single = network.predict_batch(batch, views=False)
    plain = network.pair_stacks[0](pairs)
    torch.testing.assert_close(single.get_probability(), average_outputs([plain], members, "le").get_probability())
    assert network.train().predict_batch(batch).is_averaged == (members > 1)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ("all", r"model\.views must be standard, null, or a list of warps .*rotation: 6\}\], got 'all'"),
        ([3], r"model\.views must be standard, .*, got \[3\]"),
        ([], r"model\.views must contain 1 to 1000 warps, got 0\. Use null for no test-time"),
        ([Warp()] * 1001, r"model\.views must contain 1 to 1000 warps, got 1001"),
        ([Warp(scale_x=0)], r"model\.views: scale_x must be from 0\.1 to 10, got 0\."),
        ([Warp(shift_y=2)], r"model\.views: shift_y must be from -1 to 1, got 2\."),
        ([Warp(rotation=math.nan)], r"model\.views: rotation must be from -360 to 360, got nan\."),
    ],
)
def test_invalid_views_are_rejected(views: object, message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        build_module(views=views)


OPTIONS: dict[str, object] = {**SMALL, "model.views": [{}, {"rotation": 20}, {"shift_x": 0.1, "scale_y": 1.2}]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pairs_lit.Run:
    return fit_small(OPTIONS, tmp_path_factory.mktemp("views"))


def test_only_final_metrics_use_views(run: pairs_lit.Run, tmp_path: Path) -> None:
    without = fit_small(OPTIONS, tmp_path, model__views="null")
    assert (without.folder / "curves.csv").read_bytes() == (run.folder / "curves.csv").read_bytes()
    for split in ("val", "test"):
        command = {"val": "validate", "test": "test"}[split]
        checkpoint = str(run.folder / "checkpoints/last.ckpt")
        assert main([command, "--config", str(run.folder / "config.yaml"), "--ckpt_path", checkpoint]) == 0
        rows = [line.split(",") for line in (run.folder / f"{command}.csv").read_text("utf-8").splitlines()]
        place = rows[0].index(f"{split}_accuracy")
        assert [float(row[place]) for row in rows[1:]] == list(run.values(f"{split}_accuracy").values())
    assert run.values("val_digit_accuracy") != without.values("val_digit_accuracy")


def test_rounds_do_not_depend_on_workers_or_stack_size(run: pairs_lit.Run, tmp_path: Path) -> None:
    spread = fit_small(OPTIONS, tmp_path, trainer__devices=2)
    assert (run.folder / "rounds.csv").read_bytes() == (spread.folder / "rounds.csv").read_bytes()
    together = fit_small(OPTIONS, tmp_path, rounds__stack_size=3)
    for name in ("val_accuracy", "test_accuracy"):
        assert list(together.values(name).values()) == pytest.approx(list(run.values(name).values()), abs=0.04)


def test_a_checkpoint_can_be_evaluated_with_different_views(
    run: pairs_lit.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(run.folder / "checkpoints/last.ckpt")
    options = ["--config", str(run.folder / "config.yaml"), "--ckpt_path", checkpoint]
    assert main(["predict", *options, "--model.views", "standard"]) == 0
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("to", ["torch", "onnx"])
@pytest.mark.slow
def test_networks_with_views_of_large_images_can_be_exported(
    to: Literal["torch", "onnx"], large: pairs_lit.Run
) -> None:
    (path,) = pairs_lit.export(large, to, 4)  # export compares predictions
    assert path.is_file()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> pairs_lit.Run:
    """Return a run whose images are too large for tables, so that each is warped."""
    sizes = {"data__resize": 56, "data__image_size": 56, "trainer__max_epochs": 1}
    run = fit_small(OPTIONS, tmp_path_factory.mktemp("large"), **sizes)
    assert run.trained.module.views is not None
    assert run.trained.module.views._tables.numel() == 0
    return run
