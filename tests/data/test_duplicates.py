"""Identical images: each split keeps them on the same side, and warnings report them."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.labelled_images import group_identical_images
from tests.support.images import write_images
from tests.support.sources import CUSTOM_DATASETS, FOLDER, check_rejected, load, load_custom


def test_copies_stay_on_one_side_of_a_split() -> None:
    for copies in (2, 3, 5):
        source = load_custom("Copies", copies=copies)
        train, test = ({image.tobytes() for image in part.images.numpy()} for part in (source.train, source.test))
        assert train.isdisjoint(test)
        assert len(train | test) == 90
        count = 90 * copies // 6
        assert 0 < len(source.test.labels) <= count
        assert len(source.test.labels) > count - 3 * copies


def test_a_class_of_identical_images_cannot_be_split(tmp_path: Path) -> None:
    root = write_images(tmp_path, ["a", "b"])
    for file in sorted((root / "b").iterdir())[1:]:
        shutil.copy(sorted((root / "b").iterdir())[0], file)
    check_rejected(r"class 'b' must have different images for training and test, got so many identical", FOLDER, root)


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_copies_stay_on_one_side_of_each_rounds_validation(copies: int) -> None:
    source = {"class_path": f"{CUSTOM_DATASETS}.Copies", "init_args": {"copies": copies}}
    counts = {"train_pairs": 20, "val_pairs": 15, "test_pairs": 5}
    bank = PairDataModule(seeds=[0, 1], source=source, image_size=14, **counts).bank
    for r in range(2):
        train, val = (
            {image.numpy().tobytes() for image in bank.images[bank.pairs[split].index[r].flatten()]}
            for split in ("train", "val")
        )
        assert train.isdisjoint(val)


def test_test_images_among_training_images_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_images(tmp_path / "train", ["0", "1", "2"]).parent
    for part, count in (("test", 2), ("val", 1)):
        for name in "012":
            (root / part / name).mkdir(parents=True)
            for file in sorted((root / "train" / name).iterdir())[:count]:
                shutil.copy(file, root / part / name / f"copy {file.name}")
            Image.fromarray(np.random.default_rng(count).integers(0, 255, (14, 14), np.uint8)).save(
                root / part / name / "new.png"
            )
    shutil.copy(sorted((root / "train" / "0").iterdir())[5], root / "train" / "1" / "conflict.png")
    load(FOLDER, root)
    output = capsys.readouterr().err
    assert (
        "WARNING: 6 of 9 test images are byte-identical to training images, so test accuracies are too high" in output
    )
    assert "WARNING: 3 of 6 validation images are byte-identical to training images" in output
    assert re.search(r"WARNING: \d+ images are byte-identical to images of another class, so labels contradict", output)


def test_identical_images_are_found_exactly() -> None:
    images = torch.randint(2, (400, 2, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    rows = [image.numpy().tobytes() for image in images]
    assert group_identical_images(images).tolist() == [rows.index(row) for row in rows]
    assert len(set(rows)) < 400
