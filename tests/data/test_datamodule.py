import hashlib
import shutil
from collections import Counter
from dataclasses import asdict
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pairs_lit.data.datamodule import PairDataModule, get_default_root
from pairs_lit.data.loaders import StackBatch, StackLoader, bound_batch_size
from pairs_lit.data.pair_store import SPLITS, Normalise, Split
from pairs_lit.data.pairs import Swap
from pairs_lit.data.sources import SourceName, load_source
from pairs_lit.errors import PairsLitError
from tests.support.data_modules import COUNTS, SEEDS, build_data_module, set_epoch
from tests.support.mnist_files import TINY_TEST, TINY_TRAIN, write_idx


def read_images(root: Path, prefix: str) -> np.ndarray:
    path = root / "MNIST" / "raw" / f"{prefix}-images-idx3-ubyte"
    return np.frombuffer(path.read_bytes(), np.uint8, offset=16).reshape(-1, 28, 28)


def read_labels(root: Path, prefix: str) -> np.ndarray:
    return np.frombuffer((root / "MNIST" / "raw" / f"{prefix}-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)


def pool_images(images: np.ndarray) -> np.ndarray:
    return images.reshape(-1, 14, 2, 14, 2).mean((2, 4)).astype(np.float32)


def compute_fingerprint(root: Path) -> str:
    """Hash shapes, images and labels of both parts, by NumPy."""
    digest = hashlib.sha256()
    for prefix in ("train", "t10k"):
        images, labels = read_images(root, prefix), read_labels(root, prefix).astype("<i8")
        digest.update(str(images.shape).encode() + images.tobytes() + labels.tobytes())
    return digest.hexdigest()


def get_image_keys(images: Tensor) -> list[bytes]:
    """Return the bytes of each image of (..., H, W), in order."""
    return [image.tobytes() for image in images.reshape(-1, *images.shape[-2:]).numpy()]


def get_pair_keys(images: Tensor) -> list[bytes]:
    """Return the bytes of each pair of (P, 2, H, W), in order."""
    return [pair.tobytes() for pair in images.numpy()]


def get_pair_images(data: PairDataModule, split: Split, r: int) -> Tensor:
    """Return (P, 2, H, W), the raw images of one round's pairs."""
    return data.bank.images[data.bank.pairs[split].index[r]]


def get_used_images(data: PairDataModule, split: Split, r: int) -> set[int]:
    return set(data.bank.pairs[split].index[r].flatten().tolist())


def collect_epoch(loader: StackLoader) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return images, digits and targets of each stack of a loader of one split, in the order shown."""
    batches = list(loader)
    stacks = [[batch for batch in batches if batch.stack == k] for k in range(batches[-1].stack + 1)]
    return [
        (
            torch.cat([batch.images for batch in stack], 1),
            torch.cat([batch.digits for batch in stack], 1),
            torch.cat([batch.target for batch in stack], 1),
        )
        for stack in stacks
    ]


def collect_round_images(loader: StackLoader) -> list[Tensor]:
    """Return (P, 2, H, W) for each round, in the order shown."""
    return [images for stack, _, _ in collect_epoch(loader) for images in stack]


def have_same_batches(first: StackLoader, second: StackLoader) -> bool:
    def equal(a: StackBatch, b: StackBatch) -> bool:
        return a[:3] == b[:3] and all(torch.equal(x, y) for x, y in zip(a[3:], b[3:], strict=True))

    return len(first) == len(second) and all(equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("counts", [(40, 20, 30), (1, 1, 1), (100, 50, 100), (300, 190, 150)])
@pytest.mark.parametrize("source", ["mnist", "digits"])
def test_train_val_and_test_images_of_a_round_are_disjoint(
    tiny_root: Path, source: SourceName, counts: tuple[int, int, int]
) -> None:
    names = ("train_pairs", "val_pairs", "test_pairs")
    data = build_data_module(tiny_root, source=source, seeds=list(range(20)), **dict(zip(names, counts, strict=True)))
    for r in range(20):
        train, val, test = (get_used_images(data, split, r) for split in SPLITS)
        assert train.isdisjoint(val)
        assert test.isdisjoint(train | val)


def test_train_val_and_test_images_of_real_mnist_are_disjoint(mnist_root: Path) -> None:
    data = build_data_module(mnist_root, allow_unverified=False, train_pairs=1000, val_pairs=1000, test_pairs=1000)
    assert data.settings.source == "mnist"
    for r in range(len(SEEDS)):
        train, val, test = (get_used_images(data, split, r) for split in SPLITS)
        assert train.isdisjoint(val)
        assert test.isdisjoint(train | val)
        assert max(train | val) < 60000 <= min(test)


def test_validation_images_are_unused_training_images(tiny_root: Path) -> None:
    data = build_data_module(tiny_root, seeds=list(range(10)), train_pairs=180)
    train_file = {image.tobytes() for image in pool_images(read_images(tiny_root, "train"))}
    test_file = {image.tobytes() for image in pool_images(read_images(tiny_root, "t10k"))}
    for r in range(10):
        train, val, test = (set(get_image_keys(get_pair_images(data, split, r))) for split in SPLITS)
        assert train | val <= train_file
        assert test <= test_file
        assert not train & val
        assert (len(train), len(val), len(test)) == (360, 40, 60)


def test_the_bundled_digits_keep_their_own_validation_images(tiny_root: Path) -> None:
    data = build_data_module(tiny_root, source="digits")
    parts = load_source("digits", tiny_root, allow_unverified=False)
    assert parts.validation is not None
    for split, part in zip(SPLITS, (parts.train, parts.validation, parts.test), strict=True):
        allowed = {image.tobytes() for image in pool_images(part.images.numpy())}
        assert set(get_image_keys(get_pair_images(data, split, 0))) <= allowed


def test_no_image_is_drawn_twice_if_there_are_enough(tiny_root: Path) -> None:
    data = build_data_module(tiny_root)
    for split, r in product(SPLITS, range(3)):
        assert len(get_used_images(data, split, r)) == 2 * COUNTS[split]


def test_rounds_have_different_pairs(tiny_root: Path) -> None:
    data = build_data_module(tiny_root)
    for split, (a, b) in product(SPLITS, pairwise(range(3))):
        assert not torch.equal(data.bank.pairs[split].index[a], data.bank.pairs[split].index[b])
        assert get_used_images(data, split, a) != get_used_images(data, split, b)


@pytest.mark.parametrize(("seeds", "stack_size"), [([9], 1), ([1, 9, 5], 1), ([5, 7, 8, 9, 3], 3), ([9, 3, 5], 9)])
def test_the_pairs_of_a_round_depend_on_its_seed_only(tiny_root: Path, seeds: list[int], stack_size: int) -> None:
    torch.manual_seed(seeds[0])
    first, second = build_data_module(tiny_root), build_data_module(tiny_root, seeds=seeds, stack_size=stack_size)
    for split, seed in product(SPLITS, set(seeds) & set(SEEDS)):
        a, b = first.bank.pairs[split], second.bank.pairs[split]
        r, s = SEEDS.index(seed), seeds.index(seed)
        assert torch.equal(a.index[r], b.index[s])
        assert torch.equal(a.digits[r], b.digits[s])
        assert torch.equal(a.target[r], b.target[s])


def test_drawing_pairs_does_not_use_the_global_generator(tiny_root: Path) -> None:
    before = torch.get_rng_state()
    list(build_data_module(tiny_root).train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_settings_record_the_loaded_source(tiny_root: Path, tmp_path: Path) -> None:
    assert asdict(build_data_module(tiny_root, source="auto").settings) == {
        "source": "mnist (unverified)",
        "relation": "le",
        **{f"{split}_pairs": count for split, count in COUNTS.items()},
        "image_size": 14,
        "swap": "none",
        "normalise": "raw",
        "reuse": True,
        "resize": None,
        "classes": 10,
        "held_out": None,
        "fingerprint": compute_fingerprint(tiny_root),
    }
    assert build_data_module(tmp_path, source="auto").settings.source == "digits"


def test_test_images_do_not_affect_training(tiny_root: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_root, tmp_path / "other")
    folder = tmp_path / "other" / "MNIST" / "raw"
    write_idx(folder / "t10k-images-idx3-ubyte", 255 - read_images(tiny_root, "t10k"))
    write_idx(folder / "t10k-labels-idx1-ubyte", (read_labels(tiny_root, "t10k") + 1) % 10)
    for normalise in ("raw", "unit", "standard"):
        first, second = (build_data_module(root, normalise=normalise) for root in (tiny_root, tmp_path / "other"))
        assert have_same_batches(first.train_dataloader(), second.train_dataloader())
        assert have_same_batches(first.val_dataloader(), second.val_dataloader())
        assert not have_same_batches(first.test_dataloader(), second.test_dataloader())


def test_images_are_the_2x2_average_pool(tiny_root: Path) -> None:
    both = np.concatenate([read_images(tiny_root, "train"), read_images(tiny_root, "t10k")])
    images = build_data_module(tiny_root).bank.images
    assert (images.shape, images.dtype) == ((TINY_TRAIN + TINY_TEST, 14, 14), torch.float32)
    np.testing.assert_array_equal(images.numpy(), pool_images(both))


def test_images_keep_28_pixels_on_request(tiny_root: Path) -> None:
    both = np.concatenate([read_images(tiny_root, "train"), read_images(tiny_root, "t10k")])
    data = build_data_module(tiny_root, image_size=28)
    np.testing.assert_array_equal(data.bank.images.numpy(), both.astype(np.float32))
    assert next(iter(data.train_dataloader())).images.shape == (2, 16, 2, 28, 28)


def collect_images(data: PairDataModule, split: Split) -> list[np.ndarray]:
    return [images.numpy().astype(np.float64) for images in collect_round_images(data.loader(split))]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("normalise", "divisor"), [("raw", 1.0), ("unit", 255.0)])
def test_raw_and_unit_scale_all_splits_by_a_constant(
    tiny_root: Path, split: Split, normalise: Normalise, divisor: float
) -> None:
    plain, scaled = build_data_module(tiny_root), build_data_module(tiny_root, normalise=normalise)
    for r, images in enumerate(collect_images(scaled, split)):
        np.testing.assert_allclose(images, get_pair_images(plain, split, r).numpy() / divisor, rtol=1e-6)


@pytest.mark.parametrize("swap", ["none", "relabel"])
@pytest.mark.parametrize("train_pairs", [40, 250])
@pytest.mark.parametrize("split", SPLITS)
def test_standard_uses_mean_and_std_of_the_rounds_own_distinct_training_images(
    tiny_root: Path, split: Split, train_pairs: int, swap: Swap
) -> None:
    options = {"train_pairs": train_pairs, "swap": swap}
    plain, scaled = (
        build_data_module(tiny_root, **options),
        build_data_module(tiny_root, normalise="standard", **options),
    )
    for r, images in enumerate(collect_images(scaled, split)):
        distinct = {image.tobytes(): image for image in get_pair_images(plain, "train", r).reshape(-1, 14, 14).numpy()}
        pixels = np.stack(list(distinct.values())).astype(np.float64)
        expected = (get_pair_images(plain, split, r).numpy().astype(np.float64) - pixels.mean()) / pixels.std(ddof=1)
        np.testing.assert_allclose(images, expected, atol=1e-5)


def test_standard_training_images_have_mean_zero_and_std_one(tiny_root: Path) -> None:
    for images in collect_images(build_data_module(tiny_root, normalise="standard"), "train"):
        assert abs(images.mean()) < 1e-5
        assert abs(images.std(ddof=1) - 1) < 1e-5


@pytest.mark.parametrize(
    ("loader", "size", "rounds", "pairs"),
    [("train", 16, (2, 1), (16, 16, 8)), ("val", 8, (2, 1), (8, 8, 4)), ("test", 8, (2, 1), (8, 8, 8, 6))],
)
def test_shapes_types_and_order_of_batches(
    tiny_root: Path, loader: str, size: int, rounds: tuple[int, ...], pairs: tuple[int, ...]
) -> None:
    batches = list(getattr(build_data_module(tiny_root), f"{loader}_dataloader")())
    expected = [(k, r, step, b) for k, r in enumerate(rounds) for step, b in enumerate(pairs)]
    assert [(b.stack, len(b.images), b.step, b.images.shape[1]) for b in batches] == expected
    for batch, (_, r, _, b) in zip(batches, expected, strict=True):
        assert batch.split == loader
        assert (batch.images.shape, batch.images.dtype) == ((r, b, 2, 14, 14), torch.float32)
        assert (batch.digits.shape, batch.digits.dtype) == ((r, b, 2), torch.int64)
        assert (batch.target.shape, batch.target.dtype) == ((r, b), torch.int64)


@pytest.mark.parametrize("stack_size", [1, 2, 3, 10])
@pytest.mark.parametrize("batch_size", [1, 7, 20, 40, 41])
def test_an_epoch_holds_every_pair_of_every_round_once(tiny_root: Path, stack_size: int, batch_size: int) -> None:
    data = build_data_module(tiny_root, stack_size=stack_size, batch_size=batch_size)
    rounds = collect_round_images(data.train_dataloader())
    assert len(rounds) == 3
    for r, images in enumerate(rounds):
        assert Counter(get_pair_keys(images)) == Counter(get_pair_keys(get_pair_images(data, "train", r)))


@pytest.mark.parametrize("stack_size", [1, 2, 3, 10])
@pytest.mark.parametrize("batch_size", [1, 7, 20, 40, 41])
def test_the_length_of_a_loader_is_its_number_of_batches(tiny_root: Path, stack_size: int, batch_size: int) -> None:
    data = build_data_module(tiny_root, stack_size=stack_size, batch_size=batch_size, eval_batch_size=batch_size)
    set_epoch(data, 0)
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.predict_dataloader())
    for loader in loaders:
        assert len(loader) == len(list(loader))


@pytest.mark.parametrize(("size", "expected"), [(1, 200), (14, 200), (28, 200), (32, 153), (64, 38), (3000, 1)])
def test_evaluation_batches_of_large_images_have_no_more_pixels(size: int, expected: int) -> None:
    assert bound_batch_size(200, size) == expected
    assert expected == 1 or expected * size**2 <= 200 * 28**2


def test_only_evaluation_batches_of_large_images_are_smaller(tiny_root: Path) -> None:
    data = set_epoch(build_data_module(tiny_root, resize=56, image_size=56), 0)
    loaders = [data.train_dataloader(), data.val_dataloader(), data.predict_dataloader(), data.loader("train")]
    loaders.append(data.all_pairs_loader("val", torch.tensor([[0, 1]] * 5)))
    assert [next(iter(loader)).images.shape[1] for loader in loaders] == [16, 2, 2, 2, 2]
    assert all(len(loader) == len(list(loader)) for loader in loaders)


def test_batches_are_ordered_by_stack(tiny_root: Path) -> None:
    data = set_epoch(build_data_module(tiny_root, stack_size=1), 0)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        stacks = [batch.stack for batch in loader]
        assert stacks == sorted(stacks)
        assert set(stacks) == {0, 1, 2}


@pytest.mark.parametrize("relation", ["le", "lt", "ge", "gt"])
@pytest.mark.parametrize("swap", ["none", "relabel"])
def test_images_digits_and_targets_of_a_batch_belong_together(tiny_root: Path, relation: str, swap: Swap) -> None:
    data = set_epoch(build_data_module(tiny_root, relation=relation, swap=swap), 1)
    holds = {"le": np.less_equal, "lt": np.less, "ge": np.greater_equal, "gt": np.greater}[relation]
    files = [(read_images(tiny_root, prefix), read_labels(tiny_root, prefix)) for prefix in ("train", "t10k")]
    label = {image.tobytes(): int(n) for images, ns in files for image, n in zip(pool_images(images), ns, strict=True)}
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        for batch in loader:
            assert [label[key] for key in get_image_keys(batch.images)] == batch.digits.flatten().tolist()
            first, second = batch.digits.numpy()[..., 0], batch.digits.numpy()[..., 1]
            np.testing.assert_array_equal(batch.target.numpy(), holds(first, second))


def get_orders(data: PairDataModule) -> list[tuple[int, ...]]:
    """Return, for each round, the places of its training pairs in the order shown."""
    rounds = collect_round_images(data.train_dataloader())
    places = [
        {key: i for i, key in enumerate(get_pair_keys(get_pair_images(data, "train", r)))} for r in range(len(rounds))
    ]
    return [tuple(place[key] for key in get_pair_keys(images)) for place, images in zip(places, rounds, strict=True)]


def test_shuffles_differ_between_epochs_and_rounds(tiny_root: Path) -> None:
    data = build_data_module(tiny_root)
    all_orders = [order for epoch in range(4) for order in get_orders(set_epoch(data, epoch))]
    assert all(sorted(order) == list(range(40)) for order in all_orders)
    assert len({tuple(range(40)), *all_orders}) == 1 + 4 * 3


def test_shuffles_depend_on_seed_and_epoch_only(tiny_root: Path) -> None:
    first = get_orders(set_epoch(build_data_module(tiny_root), 7))
    torch.manual_seed(99)
    again = set_epoch(build_data_module(tiny_root, seeds=[8, 9, 5], stack_size=1, batch_size=5), 6)
    list(again.train_dataloader())
    assert get_orders(set_epoch(again, 7))[1:] == [first[2], first[1]]


def test_a_training_loader_uses_the_current_epoch(tiny_root: Path) -> None:
    data = set_epoch(build_data_module(tiny_root), 0)
    loader = data.train_dataloader()
    before = collect_round_images(loader)
    set_epoch(data, 1)
    after, expected = collect_round_images(loader), collect_round_images(data.train_dataloader())
    assert not torch.equal(after[0], before[0])
    assert all(torch.equal(a, b) for a, b in zip(after, expected, strict=True))


def test_without_a_trainer_the_epoch_is_zero(tiny_root: Path) -> None:
    alone, fitted = build_data_module(tiny_root), set_epoch(build_data_module(tiny_root), 0)
    assert have_same_batches(alone.train_dataloader(), fitted.train_dataloader())


@pytest.mark.parametrize("split", SPLITS)
def test_evaluation_does_not_shuffle(tiny_root: Path, split: Split) -> None:
    data = set_epoch(build_data_module(tiny_root), 3)
    for _ in range(2):
        for r, images in enumerate(collect_round_images(data.loader(split))):
            assert torch.equal(images, get_pair_images(data, split, r))


def test_validation_in_a_fit_includes_the_test_pairs(tiny_root: Path) -> None:
    splits = [(batch.stack, batch.split) for batch in set_epoch(build_data_module(tiny_root), 0).val_dataloader()]
    assert list(dict.fromkeys(splits)) == [(0, "val"), (0, "test"), (1, "val"), (1, "test")]


@pytest.mark.parametrize("fn", ["validate", None])
def test_validate_uses_only_the_validation_pairs(tiny_root: Path, fn: str | None) -> None:
    data = build_data_module(tiny_root)
    loader = data.val_dataloader() if fn is None else set_epoch(data, 0, fn).val_dataloader()
    assert {batch.split for batch in loader} == {"val"}


def test_test_uses_only_the_test_pairs(tiny_root: Path) -> None:
    assert {batch.split for batch in build_data_module(tiny_root).test_dataloader()} == {"test"}


@pytest.mark.parametrize("normalise", ["raw", "standard"])
@pytest.mark.parametrize("stack_size", [1, 2, 3])
def test_predict_uses_the_first_rounds_test_pairs_for_all_rounds(
    tiny_root: Path, stack_size: int, normalise: Normalise
) -> None:
    data = build_data_module(tiny_root, stack_size=stack_size, normalise=normalise)
    _, digits, target = collect_epoch(
        build_data_module(tiny_root, seeds=SEEDS[:1], normalise=normalise).test_dataloader()
    )[0]
    raw = collect_epoch(build_data_module(tiny_root, seeds=SEEDS[:1], normalise="raw").test_dataloader())[0][0][0]
    seen = 0
    for stack_images, stack_digits, stack_target in collect_epoch(data.predict_dataloader()):
        for r in range(len(stack_images)):
            expected = raw
            if data.bank.scale is not None:  # each round has its own scale
                mean, std = (float(values[seen]) for values in data.bank.scale)
                expected = (raw - mean) / std
            torch.testing.assert_close(stack_images[r], expected)
            assert torch.equal(stack_digits[r], digits[0])
            assert torch.equal(stack_target[r], target[0])
            seen += 1
    assert seen == 3


@pytest.mark.parametrize("swap", ["relabel", "flip"])
def test_swap_doubles_the_training_pairs_only(tiny_root: Path, swap: Swap) -> None:
    plain, doubled = build_data_module(tiny_root), build_data_module(tiny_root, swap=swap)
    for split in ("val", "test"):
        assert have_same_batches(plain.loader(split), doubled.loader(split))
    before, after = plain.bank.pairs["train"], doubled.bank.pairs["train"]
    assert torch.equal(after.index, torch.cat([before.index, before.index.flip(-1)], 1))
    assert torch.equal(after.digits, torch.cat([before.digits, before.digits.flip(-1)], 1))
    assert sum(batch.target.shape[1] for batch in doubled.train_dataloader() if batch.stack == 0) == 80


def test_swapped_targets_are_recomputed_or_flipped(tiny_root: Path) -> None:
    relabel, flip = (build_data_module(tiny_root, swap=swap).bank.pairs["train"] for swap in ("relabel", "flip"))
    assert torch.equal(relabel.target, (relabel.digits[..., 0] <= relabel.digits[..., 1]).long())
    assert torch.equal(flip.target[:, 40:], 1 - flip.target[:, :40])
    ties = relabel.digits[:, 40:, 0] == relabel.digits[:, 40:, 1]
    assert ties.any()
    assert torch.equal(relabel.target[:, 40:] != flip.target[:, 40:], ties)


def test_reuse_is_reported_once_with_the_source(tiny_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = build_data_module(tiny_root, train_pairs=500, test_pairs=101)
    for stage in ("fit", "validate", "test"):
        data.setup(stage)
    list(data.train_dataloader())
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("drawn more than once") == 1
    assert "mnist (unverified) has too few images" in err
    assert "train 500 of 180, test 101 of 100" in err


def test_reuse_of_the_bundled_digits_is_reported(tiny_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_data_module(tiny_root, source="digits", val_pairs=151).setup("fit")
    assert "digits has too few images" in (err := capsys.readouterr().err)
    assert "(pairs: val 151 of 150)" in err


@pytest.mark.parametrize("source", ["mnist", "digits"])
def test_without_reuse_nothing_is_printed(
    tiny_root: Path, capsys: pytest.CaptureFixture[str], source: SourceName
) -> None:
    build_data_module(tiny_root, source=source, train_pairs=180, test_pairs=100).setup("fit")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("options", [{"train_pairs": 181}, {"test_pairs": 101}])
def test_too_many_pairs_without_reuse_are_rejected(tiny_root: Path, options: dict[str, int]) -> None:
    count = next(iter(options.values()))
    with pytest.raises(PairsLitError, match=rf"{count} pairs were requested, but {2 * count - 2} images"):
        build_data_module(tiny_root, reuse=False, **options).setup("fit")


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("val_pairs", [TINY_TRAIN // 2, TINY_TRAIN // 2 + 1, 10**6])
def test_validation_pairs_that_leave_no_training_images_are_rejected(
    tiny_root: Path, val_pairs: int, reuse: bool
) -> None:
    message = rf"data\.val_pairs must be 199 or less, got {val_pairs}: .* share {TINY_TRAIN} training images"
    with pytest.raises(PairsLitError, match=message):
        build_data_module(tiny_root, val_pairs=val_pairs, reuse=reuse).setup("fit")


def test_validation_pairs_may_leave_one_training_pair(tiny_root: Path) -> None:
    data = build_data_module(tiny_root, val_pairs=TINY_TRAIN // 2 - 1, train_pairs=1, reuse=False)
    assert get_used_images(data, "train", 0) | get_used_images(data, "val", 0) == set(range(TINY_TRAIN))


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("name", ["train_pairs", "val_pairs", "test_pairs", "batch_size", "eval_batch_size"])
def test_counts_below_one_are_rejected(tiny_root: Path, name: str, value: int) -> None:
    with pytest.raises(PairsLitError, match=rf"data\.{name} must be 1 or more, got {value}"):
        build_data_module(tiny_root, **{name: value})


def test_unverified_files_are_rejected_by_default(tiny_root: Path) -> None:
    with pytest.raises(PairsLitError, match="train-images-idx3-ubyte is not MNIST's file"):
        build_data_module(tiny_root, source="auto", allow_unverified=False).setup("fit")


@pytest.mark.parametrize(("value", "expected"), [(None, "data"), ("/some/where", "/some/where")])
def test_the_default_root_is_the_environment_variable(
    monkeypatch: pytest.MonkeyPatch, value: str | None, expected: str
) -> None:
    monkeypatch.delenv("PAIRS_LIT_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("PAIRS_LIT_DATA", value)
    assert get_default_root() == expected


def test_a_data_module_uses_the_default_root(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAIRS_LIT_DATA", str(tiny_root))
    data = PairDataModule(seeds=[0], stack_size=1, source="auto", allow_unverified=True, val_pairs=20)
    assert data.settings.source == "mnist (unverified)"
