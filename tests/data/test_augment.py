"""Augmentation compared with a slow, simple reference that computes each pixel separately."""

from math import cos, exp, floor, radians, sin
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from pairs_lit.data import augment
from pairs_lit.data.augment import Augmentation, Augmenter
from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.warps import enlarge_images
from pairs_lit.errors import PairsLitError
from pairs_lit.seeds import build_generator
from tests.conftest import Fit
from tests.support.data_modules import build_data_module, set_epoch
from tests.support.meta_device import META, DeviceWatch

ALL_CHANGES = Augmentation(
    shift=0.7,
    rotate=20,
    shear=0.2,
    log_scale=0.1,
    anisotropy=0.07,
    elastic={3: 0.5, 4: 0.2},
    dilate=0.4,
    erode=0.3,
)


def build_images(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def compute_cubic_weight(distance: float) -> float:
    """Return Keys' kernel with a = -0.75, which torch uses for bicubic interpolation."""
    x, a = abs(distance), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def interpolate_pixel(image: NDArray[np.float64], x: float, y: float) -> float:
    """Return the value of an image at (x, y) by bicubic interpolation."""
    size, value = len(image), 0.0
    for row in range(floor(y) - 1, floor(y) + 3):
        for column in range(floor(x) - 1, floor(x) + 3):
            pixel = image[min(max(row, 0), size - 1), min(max(column, 0), size - 1)]  # edge pixels are repeated outside
            value += pixel * compute_cubic_weight(y - row) * compute_cubic_weight(x - column)
    return value


def augment_image(image: Tensor, even: Tensor, normal: Tensor, settings: Augmentation, size: int, top: float) -> Tensor:
    """Return one image, (H, H), changed by the given random numbers as the docstring of Augmentation describes."""
    large = (image if settings.originals else enlarge_images(image)).numpy().astype(float)
    share = -settings.erode + (settings.erode + settings.dilate) * float(even[0])
    morph = ndimage.grey_dilation if share > 0 else ndimage.grey_erosion
    large = (1 - abs(share)) * large + abs(share) * morph(large, size=(3, 3), mode="nearest")
    names = ("shift", "shift", "rotate", "shear", "log_scale", "anisotropy")
    amounts = [getattr(settings, name) * (2 * float(u) - 1) for name, u in zip(names, even[1:], strict=True)]
    right, down, angle, shear, log_scale, flat = amounts
    rotation = np.array([[cos(radians(angle)), -sin(radians(angle))], [sin(radians(angle)), cos(radians(angle))]])
    matrix = rotation @ np.array([[1, shear], [0, 1]]) @ np.diag([exp(log_scale + flat), exp(log_scale - flat)])
    moves = np.zeros((2, len(large), len(large)))
    for grid, amount in settings.elastic.items():
        points, normal = normal[: 2 * grid**2].view(1, 2, grid, grid), normal[2 * grid**2 :]
        field = F.interpolate(points.double(), size=large.shape, mode="bicubic", align_corners=True)
        moves += amount * field[0].numpy()
    result, scale = np.empty_like(large), len(large) / size
    middle = (len(large) - 1) / 2
    for row in range(len(large)):
        for column in range(len(large)):
            place = matrix @ [column - middle, row - middle] + scale * np.array([right, down])
            place += middle + scale * moves[:, row, column]
            result[row, column] = interpolate_pixel(large, *place)
    return F.avg_pool2d(torch.from_numpy(result)[None], len(large) // size)[0].clamp(0, top)


@pytest.mark.parametrize(
    "name", ["all", "shift", "rotate", "shear", "log_scale", "anisotropy", "elastic", "dilate", "erode"]
)
def test_changed_images_agree_with_the_reference(name: str) -> None:
    settings = ALL_CHANGES if name == "all" else Augmentation(**{name: getattr(ALL_CHANGES, name)})
    originals, seeds = 255 * build_images(2, 3, 7, 7).float(), (4, 9)
    actual = Augmenter(settings, 7, 255.0)(originals, [torch.Generator().manual_seed(seed) for seed in seeds])
    for r, seed in enumerate(seeds):
        draws = torch.Generator().manual_seed(seed)
        even = torch.rand(3, 7, generator=draws)
        normal = torch.randn(3, sum(2 * grid**2 for grid in settings.elastic), generator=draws)
        for n in range(3):
            expected = augment_image(originals[r, n].double(), even[n], normal[n], settings, 7, 255.0)
            torch.testing.assert_close(actual[r, n].double(), expected, rtol=1e-4, atol=2e-2)
    assert not torch.allclose(actual, originals, atol=1)


def test_random_numbers_in_the_middle_of_their_range_change_nothing() -> None:
    class Middle(Augmenter):
        def _draw_random_numbers(self, count: int, generator: torch.Generator) -> Tensor:
            return torch.cat([torch.full((count, 7), 0.5), torch.zeros(count, 2 * (9 + 16))], 1)

    originals = build_images(1, 2, 14, 14).float()
    settings = Augmentation(rotate=20, shift=2, elastic={3: 1, 4: 1}, dilate=0.2, erode=0.2)
    actual = Middle(settings, 14, 1.0)(originals, [torch.Generator()])
    torch.testing.assert_close(actual, originals, rtol=0, atol=1e-5)


def test_the_chunk_size_does_not_affect_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    originals, seeds = 255 * build_images(2, 9, 7, 7).float(), [4, 9]
    whole = Augmenter(ALL_CHANGES, 7, 255.0)(originals, [torch.Generator().manual_seed(seed) for seed in seeds])
    monkeypatch.setattr(augment, "_MAX_CHUNK_PIXELS", 14 * 14 * 4)
    chunked = Augmenter(ALL_CHANGES, 7, 255.0)(originals, [torch.Generator().manual_seed(seed) for seed in seeds])
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-3)


def collect_epoch_images(data: PairDataModule, epoch: int) -> Tensor:
    """Return the images of each round's training pairs in an epoch, (R, P, 2, H, W)."""
    batches = list(set_epoch(data, epoch).train_dataloader())
    stacks = [[batch.images for batch in batches if batch.stack == stack] for stack in range(len(data.rounds.stacks))]
    return torch.cat([torch.cat(parts, 1) for parts in stacks])


def test_the_images_of_a_round_depend_only_on_its_seed_and_the_epoch(tiny_root: Path) -> None:
    data = build_data_module(tiny_root, augment=ALL_CHANGES)
    first, second = collect_epoch_images(data, 0), collect_epoch_images(data, 1)
    torch.testing.assert_close(first, collect_epoch_images(data, 0), rtol=0, atol=0)
    assert not torch.equal(first.sort(1).values, second.sort(1).values)
    for stack_size in (1, 3):
        other = collect_epoch_images(build_data_module(tiny_root, augment=ALL_CHANGES, stack_size=stack_size), 0)
        torch.testing.assert_close(first, other, rtol=0, atol=1e-3)
    alone = collect_epoch_images(build_data_module(tiny_root, augment=ALL_CHANGES, seeds=[5]), 0)
    torch.testing.assert_close(first[1:2], alone, rtol=0, atol=1e-3)
    assert first.min() >= 0
    assert first.max() <= 255


def test_training_batches_hold_changed_images_of_their_pairs(tiny_root: Path) -> None:
    data = build_data_module(tiny_root, augment=ALL_CHANGES, seeds=[5], normalise="standard", swap="relabel")
    plain = set_epoch(build_data_module(tiny_root, seeds=[5], swap="relabel"), 3).train_dataloader()
    change, draws = Augmenter(ALL_CHANGES, 14, 255.0), [build_generator(5, "augment", 3)]
    mean, std = data.bank.scale or (0, 0)
    for batch, before in zip(set_epoch(data, 3).train_dataloader(), plain, strict=True):
        expected = (change(before.images.flatten(1, 2), draws).view(before.images.shape) - mean) / std
        torch.testing.assert_close(batch.images, expected)
        assert torch.equal(batch.target, before.target)


def test_evaluation_uses_unchanged_images(tiny_root: Path) -> None:
    data, plain = (set_epoch(build_data_module(tiny_root, augment=augment), 0) for augment in (ALL_CHANGES, None))
    for split in ("train", "val", "test"):
        for batch, before in zip(data.loader(split), plain.loader(split), strict=True):
            torch.testing.assert_close(batch.images, before.images, rtol=0, atol=0)


def test_originals_are_warped_at_their_original_size(tiny_root: Path) -> None:
    settings = Augmentation(rotate=10, originals=True)
    data = build_data_module(tiny_root, augment=settings, seeds=[5], normalise="unit")
    originals = data._source.train.images
    batch = next(iter(set_epoch(data, 0).train_dataloader()))
    assert data.settings.source == "mnist (unverified) (originals 28x28)"
    pairs = data.bank.get_pairs("train", slice(0, 1), 0)
    draws = build_generator(5, "augment", 0)
    even = torch.rand(32, 7, generator=draws)
    for place in range(3):
        index = int(pairs.index[0, :16].flatten()[place])
        plain = originals[index].double() / 255
        expected = augment_image(plain, even[place], torch.zeros(0), settings, 14, 1.0)
        torch.testing.assert_close(batch.images[0].flatten(0, 1)[place].double(), expected, rtol=1e-4, atol=1e-4)


def test_originals_need_images_larger_than_the_image_size(tiny_root: Path) -> None:
    data = build_data_module(tiny_root, augment=Augmentation(rotate=1, originals=True), image_size=28)
    with pytest.raises(
        PairsLitError, match=r"originals must be false if data.image_size is the size of the images, .*28"
    ):
        data.setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotate": -1}, r"data.augment.rotate must be from 0 to 180, got -1"),
        ({"rotate": 181}, r"data.augment.rotate must be from 0 to 180, got 181"),
        ({"dilate": 1.5}, r"data.augment.dilate must be from 0 to 1, got 1.5"),
        ({"erode": float("nan")}, r"data.augment.erode must be from 0 to 1, got nan"),
        ({"shift": float("inf")}, r"data.augment.shift must be a finite number, 0 or more, got inf"),
        ({"log_scale": -0.1}, r"data.augment.log_scale must be a finite number, 0 or more, got -0.1"),
        ({"elastic": {4: -1.0}}, r"data.augment.elastic\[4\] must be a finite number, 0 or more, got -1.0"),
        ({"elastic": {1: 1.0}}, r"data.augment.elastic must have grids of 2 to 64 points per side, got 1"),
        ({"elastic": {65: 1.0}}, r"grids of 2 to 64 points per side, got 65"),
        ({}, r"data.augment must change something, got no amount above 0"),
        ({"originals": True}, r"data.augment must change something"),
    ],
)
def test_wrong_amounts_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        Augmentation(**options)


def test_a_run_with_augmentation_can_be_repeated_from_its_config(fit: Fit) -> None:
    options = ["--data.augment.rotate=8", "--data.augment.elastic={4: 0.4, 7: 0.2}", "--data.augment.dilate=0.3"]
    first = fit(*options)
    again = fit(config=first / "config.yaml")
    assert (first / "rounds.csv").read_bytes() == (again / "rounds.csv").read_bytes()
    plain = fit()
    assert (first / "curves.csv").read_bytes() != (plain / "curves.csv").read_bytes()


@pytest.mark.parametrize(("limit", "copies"), [(1, 3), (24 * 3 * 7 + 1, 2), (10**9, 1)], ids=["each", "two", "all"])
def test_a_gpu_gets_the_random_numbers_of_many_batches_in_one_copy(
    limit: int, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augment, "_MAX_COPIED_NUMBERS", limit)
    change, counts = Augmenter(Augmentation(shift=1.0), 7, 255.0), [24, 24, 8]
    with DeviceWatch() as watch:
        moved = list(change.draw_batches(counts, _build_generators(), META))
    assert [part.shape for part in moved] == [(3 * count, 7) for count in counts]
    assert len(watch.to_device) == copies


def test_random_numbers_of_an_epoch_are_those_drawn_batch_by_batch() -> None:
    change, counts, generators = Augmenter(ALL_CHANGES, 7, 255.0), [24, 24, 8], _build_generators()
    numbers = change.draw_batches(counts, _build_generators(), torch.device("cpu"))
    for count, batch in zip(counts, numbers, strict=True):
        assert torch.equal(batch, change.draw_numbers(count, generators))


def _build_generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]
