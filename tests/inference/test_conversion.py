"""The format of training images, and the conversion of user images to it."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

import pairs_lit
from pairs_lit.cli import main
from pairs_lit.data.image_format import ImageFormat, is_side_by_side, measure_format, parse_format
from pairs_lit.data.labelled_images import LabelledImages, Source
from pairs_lit.data.mnist import load_mnist
from pairs_lit.data.sources import load_source
from pairs_lit.errors import PairsLitError
from pairs_lit.inference.conversion import Converter, get_placement, is_like_training_images, match_greys
from pairs_lit.inference.predictions import PairPrediction
from pairs_lit.inference.result_figure import draw_result
from pairs_lit.inference.result_formats import format_result
from pairs_lit.inference.strokes import Placement
from pairs_lit.inference.trained_rounds import Predictions, TrainedRounds
from pairs_lit.inference.user_images import resize_only
from tests.support.images import draw_seven
from tests.support.small_runs import SMALL, fit_case

Bytes = NDArray[np.uint8]


def source_of(images: Bytes, **facts: object) -> Source:
    part = LabelledImages(torch.from_numpy(images), torch.zeros(len(images), dtype=torch.int64))
    return replace(Source("made", part, None, part), **facts)  # type: ignore[arg-type]


def format_of(images: Bytes, **facts: object) -> ImageFormat:
    return measure_format(source_of(images, **facts))


@pytest.fixture(scope="module")
def digits() -> Bytes:
    images: Bytes = load_source("digits", Path(), allow_unverified=False).train.images[:200].numpy()
    return images


def clothes(count: int = 60) -> Bytes:
    """Draw shirts, boots and bags, filled, light on dark."""
    shapes = [
        [(2, 5), (10, 2), (18, 2), (26, 5), (23, 11), (20, 9), (20, 26), (8, 26), (8, 9), (5, 11)],
        [(9, 2), (19, 2), (19, 14), (26, 18), (26, 26), (9, 26)],
        [(4, 8), (24, 8), (26, 26), (2, 26)],
    ]
    images = []
    for number in range(count):
        image = Image.new("L", (28, 28), 0)
        ImageDraw.Draw(image).polygon(shapes[number % 3], fill=150 + number)
        images.append(np.asarray(image))
    return np.stack(images)


def photos(count: int = 60) -> Bytes:
    grey = np.asarray(Image.fromarray(load_sample_images().images[0]).convert("L"))
    corners = np.random.default_rng(0).integers(0, 200, (count, 2)).tolist()
    return np.stack([grey[y : y + 200 : 7, x : x + 200 : 7][:28, :28] for y, x in corners])


def pens(count: int = 60) -> Bytes:
    """Draw sevens with a pen on grey paper, anywhere, of any size."""
    rng, images = np.random.default_rng(0), []
    for _ in range(count):
        image, scale, (x, y) = Image.new("L", (64, 64), 230), rng.uniform(0.5, 1), rng.integers(0, 20, 2)
        points = [(x + scale * a, y + scale * b) for a, b in ((5, 4), (36, 6), (18, 44))]
        ImageDraw.Draw(image).line(points, fill=30, width=4, joint="curve")
        images.append(np.asarray(image))
    return np.stack(images)


# measured formats


def test_the_bundled_digits_are_light_strokes_that_fill_their_images(digits: Bytes) -> None:
    actual = format_of(digits)
    assert (actual.content, actual.polarity, actual.centring) == ("strokes", "light on dark", "box")
    assert (actual.size, actual.lowest, actual.highest, actual.side_by_side) == (28, 0, 255, 0)
    assert actual.background == (0, 0, 0)
    assert actual.box == (100, 100, 100)


def test_mnists_digits_have_a_box_of_20_pixels_and_their_mass_in_the_middle(mnist_root: Path) -> None:
    actual = measure_format(load_mnist(mnist_root, allow_unverified=False))
    assert (actual.content, actual.polarity, actual.centring) == ("strokes", "light on dark", "mass")
    assert round(actual.box[1] * 28 / 100) == 20
    assert actual.side_by_side == 0


def test_an_inverted_set_is_dark_on_light(digits: Bytes) -> None:
    one, other = format_of(digits), format_of(255 - digits)
    assert (other.polarity, other.background) == ("dark on light", (255, 255, 255))
    assert (other.content, other.box, other.offset) == (one.content, one.box, one.offset)


def test_a_set_of_both_polarities_is_mixed(digits: Bytes) -> None:
    actual = format_of(np.concatenate([digits[:50], 255 - digits[50:100]]))
    assert (actual.content, actual.polarity) == ("strokes", "mixed")


@pytest.mark.parametrize("make", [clothes, photos])
def test_clothes_and_photos_are_not_strokes(make: Callable[[], Bytes]) -> None:
    assert format_of(make()).content == "other"


def test_pen_strokes_anywhere_are_strokes() -> None:
    actual = format_of(pens())
    assert (actual.content, actual.polarity, actual.centring) == ("strokes", "dark on light", "none")
    assert actual.box[0] < 45 < 55 < actual.box[2]


def test_facts_of_the_source_are_recorded(digits: Bytes) -> None:
    actual = format_of(digits, transposed=True, original_size="20×30 to 400×600")
    assert (actual.transposed, actual.original_size) == (True, "20×30 to 400×600")


def test_blank_images_do_not_count(digits: Bytes) -> None:
    with_blank = np.concatenate([digits, np.full((20, 28, 28), 255, np.uint8)])
    assert format_of(with_blank).polarity == "light on dark"
    assert format_of(np.full((5, 28, 28), 7, np.uint8)).contrast == (0, 0, 0)


def test_a_format_survives_its_record(digits: Bytes) -> None:
    actual = format_of(digits)
    assert parse_format(actual.to_text()) == actual
    assert parse_format(json.loads(json.dumps(actual.to_record()))) == actual
    assert parse_format(None) is None


@pytest.mark.parametrize(
    "change", [{"polarity": "blue"}, {"box": [1, 2]}, {"size": 0}, {"size": "28"}, {"transposed": 1}, {"box": 3}]
)
def test_a_damaged_record_is_named(digits: Bytes, change: dict[str, object]) -> None:
    with pytest.raises(PairsLitError, match=r"record of the training images' format is damaged .*train it again"):
        parse_format(format_of(digits).to_record() | change)
    with pytest.raises(PairsLitError, match="is damaged"):
        parse_format("[1")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([(2, 8, 0, 20), (12, 18, 0, 20)], True),
        ([(2, 8, 0, 20), (9, 15, 0, 20)], False),  # a gap of one pixel: an open 4
        ([(2, 14, 4, 20), (17, 20, 0, 3)], False),  # a small part: the bar of a 5
        ([(2, 18, 0, 8), (2, 18, 12, 20)], False),  # above each other
        ([(2, 18, 0, 20)], False),
        ([], False),
    ],
)
def test_two_shapes_count_where_they_are_tall_and_apart(
    columns: list[tuple[int, int, int, int]], expected: bool
) -> None:
    mask = np.zeros((22, 22), bool)
    for left, right, top, bottom in columns:
        mask[top:bottom, left:right] = True
    assert is_side_by_side(mask) is expected


# conversion


def converter_of(images: Bytes, *, as_is: bool = False, **facts: object) -> Converter:
    known = format_of(images, **facts)
    form = Placement(known.size, max(1, round(known.size * known.box[1] / 100)), known.centring == "mass")
    return Converter(form, known, as_is)


@pytest.mark.parametrize("as_is", [False, True])
@pytest.mark.parametrize(
    "make", [lambda digits: digits, lambda digits: 255 - digits, lambda _: pens(), lambda _: clothes()]
)
def test_training_images_are_not_changed(make: Callable[[Bytes], Bytes], as_is: bool, digits: Bytes) -> None:
    images = make(digits)[:40]
    converter = converter_of(make(digits), as_is=as_is)
    for image in images:
        actual = converter.convert(image, "it")
        np.testing.assert_array_equal(actual.image, image)
        assert (actual.difference, actual.warning) == ("", "")


def test_files_of_other_sizes_are_resized_as_in_training(digits: Bytes) -> None:
    from pairs_lit.data.resize import resize_images

    large = digits.repeat(3, 1).repeat(2, 2)
    known = format_of(resize_images(torch.from_numpy(large), 28).numpy(), original_size="84×56")
    converter = Converter(Placement(28, 28, False), known, False)
    for image in large[:20]:
        expected = resize_images(torch.from_numpy(image)[None], 28)[0].numpy()
        np.testing.assert_array_equal(converter.convert(image, "it").image, expected)


@pytest.mark.parametrize(("ink", "paper"), [(0, 255), (255, 0), (40, 190)])
def test_a_drawing_gets_the_polarity_of_the_training_images(ink: int, paper: int, digits: Bytes) -> None:
    drawing = np.array(draw_seven(ink=ink, paper=paper))
    light, dark = (converter_of(images).convert(drawing, "it") for images in (digits, 255 - digits))
    assert light.image[0, 0] == 0
    assert light.image.max() > 250
    assert dark.image[0, 0] == 255
    assert dark.image.min() < 5
    assert ("inverted" in light.difference) == (ink < paper)
    assert ("inverted" in dark.difference) == (ink > paper)


def test_with_training_images_of_both_polarities_nothing_is_inverted(digits: Bytes) -> None:
    both = np.concatenate([digits[:50], 255 - digits[50:100]])
    for ink, paper in ((0, 255), (255, 0)):
        actual = converter_of(both).convert(np.array(draw_seven(ink=ink, paper=paper)), "it")
        assert actual.image[0, 0] == paper
        assert actual.difference == ""


@pytest.mark.parametrize("make", [clothes, photos])
def test_images_without_strokes_are_only_resized(make: Callable[[], Bytes]) -> None:
    image = photos(1)[0].repeat(2, 0).repeat(2, 1)
    actual = converter_of(make()).convert(image, "it").image
    np.testing.assert_array_equal(actual, resize_only(image, 28))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image: 255 - image, "dark on light (training images: light on dark): leave out --as-is"),
        (lambda image: image.repeat(3, 0), "84×28 pixels, squeezed (training images: 28×28)"),
        (lambda image: image / 6, "faint, contrast 4"),
        (lambda image: np.pad(image, 30), "placed differently, strokes over"),
    ],
)
def test_clear_differences_are_described(
    change: Callable[[Bytes], NDArray[np.generic]], message: str, digits: Bytes
) -> None:
    actual = converter_of(digits, as_is=True).convert(change(digits[0]).astype(np.uint8), "it")
    assert message in actual.difference


def test_images_stored_transposed_are_read_upright_with_as_is_only(digits: Bytes) -> None:
    image = digits[3]
    assert (image != image.T).any()
    for as_is, expected in ((True, image.T), (False, image)):
        actual = converter_of(digits, as_is=as_is, transposed=True).convert(image, "it")
        np.testing.assert_array_equal(actual.image, expected)


@pytest.mark.parametrize("as_is", [False, True])
@pytest.mark.parametrize("make", [lambda digits: digits, lambda _: clothes()])
def test_a_blank_image_is_rejected(make: Callable[[Bytes], Bytes], as_is: bool, digits: Bytes) -> None:
    with pytest.raises(PairsLitError, match=r"^it is blank"):
        converter_of(make(digits), as_is=as_is).convert(np.full((30, 30), 255, np.uint8), "it")


def test_two_digits_give_a_warning_unless_training_images_have_them(digits: Bytes) -> None:
    both = np.pad(np.concatenate([digits[0], np.zeros((28, 12), np.uint8), digits[1]], 1), 8)
    assert "perhaps two digits" in converter_of(digits).convert(both, "it").warning
    pairs = np.stack([np.pad(each[:, 4:24], ((0, 0), (0, 30))) for each in digits])
    pairs[:, :, 30:] = digits[::-1][:, :, 4:24]
    usual = np.stack([np.pad(each, ((11, 11), (0, 0))) for each in pairs])
    assert format_of(usual).side_by_side > 50
    assert converter_of(usual).convert(usual[0], "it").warning == ""


def test_grey_values_are_those_of_the_training_images() -> None:
    known = format_of(pens())
    image = match_greys(np.array([[0, 255]], np.float32), known, is_dark=False)
    assert image.tolist() == [[230.0, 30.0]]
    assert is_like_training_images(pens()[0].astype(np.float32), (64, 64), known)


# predictions in words


@pytest.mark.parametrize(
    ("rounds", "answer"),
    [
        ([0.9, 0.8, 0.2], "yes (2 of 3 rounds)"),
        ([0.1], "no (1 of 1 round)"),
        ([0.51, 0.51, 0.51, 0.46, 0.46], "no (mean P 0.49; 3 of 5 rounds say yes)"),
        ([0.99, 0.4, 0.4], "yes (mean P 0.60; 2 of 3 rounds say no)"),
        ([0.9, 0.2], "yes (mean P 0.55; 1 of 2 rounds say no)"),
        ([0.5, 0.5], "no (2 of 2 rounds)"),
        ([0.75, 0.25], "no (mean P 0.50; 1 of 2 rounds say yes)"),
        ([0.5004, 0.5004, 0.498], "no (mean P 0.4996; 2 of 3 rounds say yes)"),
    ],
)
def test_answer_and_count_agree(rounds: list[float], answer: str) -> None:
    pair = PairPrediction(("a", "b"), rounds, None)
    assert pair.answer == answer
    assert pair.holds == (np.mean(rounds) > 0.5)
    assert pair.yes == sum(p > 0.5 for p in rounds)
    assert pair.agreeing == (pair.yes if pair.holds else len(rounds) - pair.yes)


# runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pairs_lit.Run:
    return fit_case("parts", tmp_path_factory.mktemp("run"))


NAMES = ["zero, or none", 'a "one"', "two\nlines", "three\x1b[31m", "-4", "$f^5$", "<b>", "7|`*", "8" * 60, "neun"]


@pytest.fixture
def named(run: pairs_lit.Run) -> pairs_lit.Run:
    """Return the same run, with class names that could break tables and pages."""
    actual = replace(run)
    vars(actual)["class_names"] = [name.replace("\n", "?").replace("\x1b", "?") for name in NAMES]
    return actual


def test_a_fit_records_the_format_in_summary_and_checkpoint(run: pairs_lit.Run) -> None:
    content = json.loads((run.folder / "summary.json").read_text())
    known = run.trained.image_format
    assert known is not None
    assert parse_format(content["image_format"]) == known
    assert (known.polarity, known.size) == ("light on dark", 28)
    assert "image_format" not in content["data"]
    assert get_placement(run, run.trained) == Placement(28, 28, False)


def test_a_run_without_a_recorded_format_gives_a_notice(run: pairs_lit.Run, capsys: pytest.CaptureFixture[str]) -> None:
    old = replace(run)
    vars(old)["trained"] = TrainedRounds(run.trained.module, run.trained.data)
    applied = old.apply([(draw_seven(), draw_seven())])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "does not record the format of its training images, since an earlier release trained it." in lines[0]
    assert [line in lines[0] for line in applied.notices] == [True]
    assert get_placement(old, old.trained) == Placement(28, 28, False)


def test_names_are_shown_in_text_csv_json_and_figure(named: pairs_lit.Run) -> None:
    applied = named.apply([(draw_seven(), draw_seven())])
    (pair,) = applied.pairs
    assert pair.readings is not None
    left = pair.readings[0]
    assert left.label == named.class_names[left.read]
    assert left.labels == [named.class_names[each] for each in left.rounds]
    assert f"{left.label} ({left.agreeing} of 3)" in str(applied)
    assert "in this order: zero, or none, " in str(applied)
    rows = list(csv.DictReader(io.StringIO(format_result(applied, "csv"))))
    assert [row["left_read"] for row in rows] == left.labels
    assert [(row["answer"], int(row["rounds_yes"])) for row in rows] == [("yes" if pair.holds else "no", pair.yes)] * 3
    actual = json.loads(format_result(applied, "json"))
    assert actual["class_names"] == list(named.class_names)
    digit = actual["pairs"][0]["left_read"]
    assert (digit["read"], digit["rounds"]) == (left.label, left.labels)
    assert (digit["class_number"], digit["class_numbers"]) == (left.read, list(left.rounds))
    figure = draw_result(applied)
    figure.draw_without_rendering()
    assert figure.axes[4].get_title().startswith(pair.answer)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b"], "there are 2 class names for 10 classes"),
        ([1] * 10, "class_names is not a list of texts"),
        ("0123456789", "class_names is not a list of texts"),
    ],
)
def test_damaged_class_names_are_named(run: pairs_lit.Run, names: object, message: str, tmp_path: Path) -> None:
    summary = json.loads((run.folder / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"class_names": names}))
    with pytest.raises(PairsLitError, match=f"holds no readable run .{message}"):
        _ = replace(run, folder=tmp_path).class_names


def test_names_with_control_characters_are_made_printable(run: pairs_lit.Run, tmp_path: Path) -> None:
    summary = json.loads((run.folder / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"class_names": NAMES}))
    assert list(replace(run, folder=tmp_path).class_names)[2:4] == ["two?lines", "three?[31m"]
    del summary["class_names"]
    (tmp_path / "summary.json").write_text(json.dumps(summary))  # as earlier releases wrote it
    assert list(replace(run, folder=tmp_path).class_names) == []


def test_a_round_with_non_finite_predictions_is_left_out(run: pairs_lit.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = TrainedRounds.predict

    def broken(trained: TrainedRounds, images: torch.Tensor) -> Predictions:
        actual = answers(trained, images)
        probability = actual.probability.clone()
        probability[1] = torch.nan
        return replace(actual, probability=probability)

    monkeypatch.setattr(TrainedRounds, "predict", broken)
    applied = run.apply([(draw_seven(), draw_seven())])
    assert (list(applied.seeds), applied.left_out) == ([4, 6], [5])
    assert "Left out: 1 round that failed (seed 5)." in str(applied)
    assert json.loads(format_result(applied, "json"))["failed"] == [5]


def write_scans(root: Path, images: Bytes, labels: list[int], names: list[str]) -> dict[str, list[Path]]:
    """Write images as files, a folder for each class; return the files of each class."""
    files: dict[str, list[Path]] = {name: [] for name in names}
    for place_, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        files[names[label]].append(folder / f"{place_:04}.png")
        Image.fromarray(image).save(files[names[label]][-1])
    return files


@pytest.mark.slow
@pytest.mark.parametrize("polarity", ["light on dark", "dark on light"])
def test_training_files_are_predicted_as_well_as_in_training(
    polarity: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = load_source("digits", Path(), allow_unverified=False).train
    images = part.images.numpy() if polarity == "light on dark" else 255 - part.images.numpy()
    names = [*"123456789", "10"]  # a folder 10 for the zeros: names are not places
    labels = [(label - 1) % 10 for label in part.labels.tolist()]
    files = write_scans(tmp_path / "scans", images, labels, names)
    options = {
        **SMALL,
        "data.source": "torchvision.datasets.ImageFolder",
        "data.root": tmp_path / "scans",
        "data.train_pairs": 400,
        "data.val_pairs": 50,
        "data.batch_size": 16,
        "rounds.count": 2,
        "trainer.max_epochs": 30,
        "trainer.default_root_dir": tmp_path,
    }
    run = pairs_lit.fit("cnn_aux", options)
    assert list(run.class_names) == names
    in_training = run.summary["train_digit_accuracy"].mean
    assert in_training > 0.8
    chosen = [(name, file) for name in names for file in files[name][:20]]
    pairs = [(chosen[n][1], chosen[n + 1][1]) for n in range(0, len(chosen), 2)]
    capsys.readouterr()
    for as_is in (False, True):
        applied = run.apply(pairs, as_is=as_is)
        labels_read = [each.labels for pair in applied.pairs for each in pair.readings or ()]
        right = np.mean(
            [[label == name for label in read] for read, (name, _) in zip(labels_read, chosen, strict=True)]
        )
        assert right > in_training - 0.06
        assert not applied.notices
    drawings = run.apply([(draw_seven(), draw_seven(ink=255, paper=0))])
    assert len(drawings.notices) == 1
    np.testing.assert_allclose(drawings.images[0, 0], drawings.images[0, 1], atol=6)
    assert main(["apply", str(run.folder), str(files["1"][0]), str(files["5"][0]), "--format", "csv"]) == 0
    row = next(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["left_read"], row["right_read"]} <= set(names)
    assert (
        main(["predict", "--config", f"{run.folder}/config.yaml", f"--ckpt_path={run.folder}/checkpoints/last.ckpt"])
        == 0
    )
    with (run.folder / "predictions.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            assert [names[int(row[f"{side}_digit"])] for side in ("first", "second")] == [
                row["first_name"],
                row["second_name"],
            ]
