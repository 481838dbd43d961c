"""User images: their conversion to MNIST's format, and the predictions of every round."""

import csv
import io
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from sklearn.neighbors import KNeighborsClassifier

import pairs_lit
from pairs_lit.cli import main
from pairs_lit.data.mnist import load_mnist
from pairs_lit.data.sources import load_source
from pairs_lit.errors import PairsLitError
from pairs_lit.inference import apply as apply_module
from pairs_lit.inference import conversion
from pairs_lit.inference.conversion import Converter, get_placement
from pairs_lit.inference.result_figure import draw_result
from pairs_lit.inference.result_formats import format_result
from pairs_lit.inference.strokes import MNIST_PLACEMENT
from pairs_lit.inference.user_images import read_grey, resize_only
from pairs_lit.statistics import format_mean_and_std
from pairs_lit.system.threads import use_threads
from tests.support.images import draw_seven
from tests.support.notebooks import read_html
from tests.support.small_runs import CASES, SMALL, fit_case

Array = NDArray[np.float64]
LIKE_MNIST = Converter(MNIST_PLACEMENT, None, as_is=False)


def convert_alone(picture: object, name: str = "it") -> NDArray[np.float32]:
    return LIKE_MNIST.convert(read_grey(picture, name), name).image  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pairs_lit.Run:
    return fit_case("parts", tmp_path_factory.mktemp("run"))


@pytest.fixture
def image_files(tmp_path: Path) -> list[str]:
    """Return four files: a seven, one light on dark, a larger one, and one lying on its side."""
    images = [
        draw_seven(),
        draw_seven(ink=255, paper=0),
        draw_seven(900),
        draw_seven().transpose(Image.Transpose.ROTATE_90),
    ]
    files = [str(tmp_path / f"{number}.png") for number in range(4)]
    for image, file in zip(images, files, strict=True):
        image.save(file)
    return files


# MNIST's format
def test_a_drawing_is_converted_to_mnists_format() -> None:
    image = convert_alone(draw_seven())
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    assert image.shape == (28, 28)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    assert image.max() == pytest.approx(255)
    assert np.abs(np.array(ndimage.center_of_mass(image)) - 14).max() <= 0.5 + 1e-6


def test_drawings_are_scaled_like_torch_with_anti_aliasing() -> None:
    ink = 255 - np.asarray(draw_seven(), dtype=np.float64)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    cut = torch.from_numpy(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])[None, None]
    height, width = cut.shape[-2:]
    size = [20, round(width * 20 / height)]
    small = torch.nn.functional.interpolate(cut, size, mode="bilinear", antialias=True)[0, 0].numpy()
    small *= 255 / small.max()
    total = small.sum()
    place = [(small.sum(1 - axis) * np.arange(small.shape[axis])).sum() / total for axis in (0, 1)]
    top, left = (round(14 - each) for each in place)
    expected = np.zeros((28, 28))
    top = min(top, 8)
    expected[top : top + size[0], left : left + size[1]] = small
    np.testing.assert_allclose(convert_alone(draw_seven()), expected, atol=2.0)


@pytest.mark.parametrize(
    "seen",
    [
        draw_seven(ink=255, paper=0),
        draw_seven(900),
        draw_seven().resize((140, 140), Image.Resampling.BOX),
        draw_seven(ink=40, paper=190),
    ],
)
def test_paper_and_size_do_not_change_a_converted_drawing(seen: Image.Image) -> None:
    assert np.abs(convert_alone(seen) - convert_alone(draw_seven())).mean() < 4


def with_exif(image: Image.Image, orientation: int) -> Image.Image:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif, quality=95)
    return Image.open(file)


def test_the_exif_orientation_is_applied() -> None:
    turned = with_exif(draw_seven().transpose(Image.Transpose.ROTATE_90), 6)
    assert np.abs(convert_alone(turned) - convert_alone(draw_seven())).mean() < 3


@pytest.mark.parametrize("ink", [0, 255])
def test_transparent_pixels_are_paper(ink: int) -> None:
    mask = draw_seven(ink=255, paper=0)
    image = Image.merge("LA", (Image.new("L", mask.size, ink), mask))
    for each in (image, image.convert("RGBA")):
        np.testing.assert_allclose(convert_alone(each), convert_alone(mask), atol=2)


def test_paper_with_transparent_corners_is_paper() -> None:
    mask = Image.new("L", (280, 280), 0)
    ImageDraw.Draw(mask).ellipse((5, 5, 274, 274), fill=255)
    assert np.abs(convert_alone(Image.merge("LA", (draw_seven(), mask))) - convert_alone(draw_seven())).mean() < 3


def test_16_bits_are_not_cut_off(tmp_path: Path) -> None:
    Image.fromarray(np.asarray(draw_seven()).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    np.testing.assert_allclose(convert_alone(tmp_path / "deep.png"), convert_alone(draw_seven()), atol=0.5)


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "CMYK", "YCbCr", "I", "F"])
def test_any_kind_of_image_is_read(mode: str) -> None:
    np.testing.assert_allclose(convert_alone(draw_seven().convert(mode)), convert_alone(draw_seven()), atol=3)


def test_arrays_and_tensors_are_accepted() -> None:
    array = np.asarray(draw_seven())
    colour = np.stack([array] * 3, -1)
    forms = [
        array,
        colour,
        array / 255,
        array > 127,
        array.astype(np.int64),
        torch.from_numpy(array.copy()),
        torch.from_numpy(colour.copy()).permute(2, 0, 1).float() / 255,
        torch.from_numpy(array.copy())[None],
    ]
    for each in forms:
        np.testing.assert_array_equal(convert_alone(each), convert_alone(draw_seven()))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 4, 5)), r"^it: .* \(H, W\) or have 1 to 4 channels, got the shape \(2, 3, 4, 5\)"),
        (np.zeros((0, 5)), r"got the shape \(0, 5\)"),
        (np.zeros((9, 9, 7)), r"\(H, W\) or have 1 to 4 channels, got the shape \(9, 9, 7\)"),
        (np.full((9, 9), 200.0), "^it: an image must hold floats in 0 … 1 or integers .*, got float64 from 200 to 200"),
        (np.full((9, 9), np.nan), "got float64 from nan to nan"),
        (np.full((9, 9), -1), "got int64 from -1 to -1"),
        (np.full((9, 9), "a"), "an image must be an array of numbers, got <U1"),
    ],
)
def test_other_arrays_are_rejected(array: NDArray[np.generic], message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        read_grey(array, "it")


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_a_blank_image_is_rejected(shade: int) -> None:
    with pytest.raises(PairsLitError, match=r"^it is blank: no strokes stand out from the paper"):
        convert_alone(np.full((60, 50), shade, np.uint8))


def test_noise_alone_is_blank() -> None:
    noise = np.random.default_rng(0).normal(200, 6, (300, 200)).clip(0, 255).astype(np.uint8)
    with pytest.raises(PairsLitError, match="is blank"):
        convert_alone(noise)


def test_transparency_alone_and_a_single_pixel_are_blank() -> None:
    for image in (Image.new("RGBA", (30, 30), (0, 0, 0, 0)), Image.new("L", (1, 1), 80)):
        with pytest.raises(PairsLitError, match="is blank"):
            convert_alone(image)


def test_an_image_too_large_to_decode_safely_is_rejected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    draw_seven().save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(PairsLitError, match=r"huge\.png is not a readable image \(DecompressionBombError"):
        convert_alone(tmp_path / "huge.png", "huge.png")


def test_as_is_does_not_change_an_image_of_the_right_size() -> None:
    array = np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)
    np.testing.assert_array_equal(resize_only(read_grey(array, "it"), 28), array)


# MNIST's own digits
TEST, TRAIN = 150, 3000


@pytest.fixture(scope="module")
def digits(mnist_root: Path) -> tuple[Array, NDArray[np.int64], KNeighborsClassifier]:
    source = load_mnist(mnist_root, allow_unverified=False)
    train = source.train.images[:TRAIN].flatten(1).numpy()
    known = KNeighborsClassifier(3).fit(train, source.train.labels[:TRAIN].numpy())
    return source.test.images[:TEST].numpy().astype(np.float64), source.test.labels[:TEST].numpy(), known


def larger(image: Array, times: int) -> Array:
    size = (image.shape[1] * times, image.shape[0] * times)
    return np.asarray(Image.fromarray(image.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC), dtype=np.float64)


def jpeg(image: Array) -> Array:
    file = io.BytesIO()
    Image.fromarray(image.round().astype(np.uint8)).save(file, "JPEG", quality=85)
    return np.asarray(Image.open(file), dtype=np.float64)


def photo(image: Array) -> Array:
    """Draw a digit on paper that is lit unevenly, with the noise of a camera."""
    ink = np.pad(larger(image, 6), 50) / 255
    y, x = np.mgrid[: len(ink), : len(ink)] / len(ink) - 0.5
    light = 220 - 80 * x - 120 * (x**2 + y**2)
    noise = np.random.default_rng(0).normal(0, 4, ink.shape)
    return np.asarray((light * (1 - 0.75 * ink) + noise).clip(0, 255))


def ruled(image: Array) -> Array:
    ink = np.pad(larger(image, 6), 60) / 255
    paper = np.full(ink.shape, 240.0)
    paper[::24], paper[:, ::24] = 190, 190
    return np.asarray(paper * (1 - 0.85 * ink))


def framed(image: Array) -> Array:
    return np.pad(np.pad(255 - image, 10, constant_values=255), 3, constant_values=0)


def on_a_table(image: Array) -> Array:
    return np.pad(np.pad(230 - 0.8 * larger(image, 6), 20, constant_values=230), 25, constant_values=70)


VARIANTS: dict[str, tuple[Callable[[Array], Array], float]] = {
    "unchanged": (lambda image: image, 0.01),
    "dark on light": (lambda image: 255 - image, 0.01),
    "coloured paper": (lambda image: 200 - 0.7 * image, 0.01),
    "larger": (lambda image: 255 - larger(image, 10), 0.03),
    "JPEG": (lambda image: jpeg(255 - image), 0.03),
    "shifted": (lambda image: np.pad(image, ((30, 2), (60, 9))), 0.01),
    "with a border": (framed, 0.01),
    "on a table": (on_a_table, 0.03),
    "photo": (photo, 0.03),
    "ruled paper": (ruled, 0.04),
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.quick(2)
def test_converted_mnist_digits_are_still_recognised(
    name: str, digits: tuple[Array, NDArray[np.int64], KNeighborsClassifier]
) -> None:
    images, labels, known = digits
    change, allowed = VARIANTS[name]
    seen = np.stack([LIKE_MNIST.convert(change(image).round().astype(np.uint8), name).image for image in images])
    seen = seen.reshape(TEST, -1)
    before, after = known.score(images.reshape(TEST, -1), labels), known.score(seen, labels)
    assert after >= before - allowed


def test_mnists_digits_come_back_almost_unchanged(
    digits: tuple[Array, NDArray[np.int64], KNeighborsClassifier], tmp_path: Path
) -> None:
    differences = []
    for image in digits[0]:
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / "digit.png")
        differences.append(np.abs(convert_alone(tmp_path / "digit.png") - image).mean())
    assert np.mean(differences) < 0.5  # of 255
    assert np.quantile(differences, 0.95) < 1


# predictions of the rounds
def test_apply_predicts_what_the_rounds_predict(run: pairs_lit.Run, image_files: list[str]) -> None:
    applied = run.apply([(image_files[0], image_files[1]), (Image.open(image_files[2]), np.asarray(draw_seven()))])
    size = get_placement(run, run.trained).size
    converter = Converter.for_run(run, run.trained)
    images = np.stack(
        [converter.convert(read_grey(file, file), file).image for file in (*image_files[:3], image_files[0])]
    )
    predictions = run.trained.predict(torch.from_numpy(images).view(2, 2, size, size))
    assert predictions.digits is not None
    for place, pair in enumerate(applied.pairs):
        own = predictions.probability[:, place].double().numpy()
        np.testing.assert_allclose(pair.rounds, own, atol=1e-6)
        assert pair.probability.n == 3
        assert pair.probability.mean == pytest.approx(own.mean())
        assert pair.probability.std == pytest.approx(own.std(ddof=1))
        assert pair.agreeing == sum((own > 0.5) == (own.mean() > 0.5))
        assert pair.readings is not None
        for side, reading in enumerate(pair.readings):
            classes = predictions.digits[:, place, side].argmax(-1).tolist()
            assert list(reading.rounds) == classes
            assert classes.count(reading.read) == reading.agreeing == max(map(classes.count, classes))
    assert applied.pairs[0].names == (image_files[0], image_files[1])
    assert applied.pairs[1].names == ("the left image of pair 2", "the right image of pair 2")
    assert (applied.relation, applied.source, list(applied.seeds)) == ("le", "digits", [4, 5, 6])
    averaged = torch.nn.functional.avg_pool2d(torch.from_numpy(applied.images), 2).numpy()
    np.testing.assert_allclose(applied.seen, averaged, atol=1e-3)


def test_each_file_is_read_once(run: pairs_lit.Run, image_files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    named, drawing = list[str](), np.asarray(draw_seven())
    pairs = [(image_files[0], Path(image_files[1])), (image_files[1], image_files[0]), (drawing, drawing)]
    singly = [run.apply([pair]) for pair in pairs]
    monkeypatch.setattr(
        apply_module, "read_grey", lambda image, name, **bits: (named.append(name), read_grey(image, name, **bits))[1]
    )
    applied = run.apply(pairs)
    assert named == [*image_files[:2], "the left image of pair 3", "the right image of pair 3"]
    np.testing.assert_array_equal(applied.images, np.concatenate([each.images for each in singly]))
    for pair, each in zip(applied.pairs, singly, strict=True):
        np.testing.assert_allclose(pair.rounds, each.pairs[0].rounds, atol=1e-6)


def test_a_file_may_be_named_like_an_image_without_a_file(
    run: pairs_lit.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw_seven().transpose(Image.Transpose.ROTATE_90).save("the left image of pair 1", "PNG")
    images = run.apply([(draw_seven(), "the left image of pair 1")]).images[0]
    assert not np.array_equal(images[0], images[1])


def test_unreadable_images_are_reported_before_blank_ones(run: pairs_lit.Run, image_files: list[str]) -> None:
    blank, white = Image.new("L", (50, 50), 255), np.full((40, 40), 255, np.uint8)
    with pytest.raises(PairsLitError, match=r"^gone\.png does not exist"):
        run.apply([(blank, image_files[0]), (image_files[1], "gone.png")])
    with pytest.raises(PairsLitError, match=r"^the left image of pair 1 is blank"):
        run.apply([(blank, white), (image_files[1], image_files[0])])


def test_images_are_converted_with_one_thread(
    run: pairs_lit.Run, image_files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = list[int]()
    monkeypatch.setattr(
        conversion, "resize_only", lambda *args: (threads.append(torch.get_num_threads()), resize_only(*args))[1]
    )
    with use_threads(2):
        run.apply([(image_files[0], image_files[1])])
        assert (threads, torch.get_num_threads()) == ([1, 1], 2)


def test_large_images_are_not_kept(run: pairs_lit.Run, tmp_path: Path) -> None:
    for number in range(16):
        draw_seven(1000).rotate(number, fillcolor=255).save(tmp_path / f"{number}.png")
    tracemalloc.start()
    run.apply([(str(tmp_path / f"{number}.png"), str(tmp_path / f"{15 - number}.png")) for number in range(16)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * 2**20  # one image of a million pixels and its float values; sixteen take 16 or 128 MiB


@pytest.mark.slow
def test_bundled_digits_are_not_converted(tmp_path: Path) -> None:
    changes = {"data.train_pairs": 400, "trainer.max_epochs": 25, "rounds.count": 2, "data.batch_size": 16}
    run = pairs_lit.fit("cnn_aux", {**SMALL, "trainer.default_root_dir": tmp_path, **changes})
    test = load_source("digits", tmp_path, allow_unverified=False).test
    pairs = [tuple(255 - test.images[2 * n : 2 * n + 2]) for n in range(100)]
    applied = run.apply(pairs)
    raw = run.apply([tuple(test.images[2 * n : 2 * n + 2]) for n in range(100)], as_is=True)
    labels = test.labels[:200].tolist()

    def compute_accuracy(result: pairs_lit.ApplyResult) -> float:
        classes = [digit.read for pair in result.pairs for digit in pair.readings or ()]
        return float(np.mean(np.array(classes) == labels))

    assert compute_accuracy(raw) > 0.5
    assert compute_accuracy(applied) > compute_accuracy(raw) - 0.1


def test_rounds_that_failed_are_left_out(run: pairs_lit.Run, image_files: list[str]) -> None:
    rounds = [replace(each, status="failed" if each.seed == 5 else "ok") for each in run.rounds]
    applied = replace(run, rounds=rounds).apply([(image_files[0], image_files[1])])
    assert list(applied.seeds) == [4, 6]
    assert applied.pairs[0].probability.n == 2
    lost = replace(run, rounds=[replace(each, status="failed") for each in run.rounds])
    with pytest.raises(PairsLitError, match=r"every round of .* failed, so it cannot predict anything\."):
        lost.apply([(image_files[0], image_files[1])])


@pytest.mark.slow
def test_a_network_without_digit_outputs_predicts_the_relation(
    tmp_path: Path, image_files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert CASES["joint"][1]["model.readout"] == "none"
    run = fit_case("joint", tmp_path)
    assert run.apply([(image_files[0], image_files[1])]).pairs[0].readings is None
    for style in ("text", "csv", "json"):
        assert main(["apply", str(run.folder), *image_files[:2], "--format", style]) == 0
    assert main(["apply", str(run.folder), *image_files[:2], "--show", str(tmp_path / "show.png")]) == 0
    assert "–" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "no pair of images was given"),
        ("a.png", "no pair of images was given"),
        (["a.png", "b.png"], r"pair 1 is a single str\. Give two images"),
        ([("a.png",)], r"pair 1 has 1 image\. Give two images"),
        ([("a.png", "b.png", "c.png")], r"pair 1 has 3 images\. Give two images"),
    ],
)
def test_anything_but_pairs_is_rejected(run: pairs_lit.Run, pairs: object, message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        run.apply(pairs)  # type: ignore[arg-type]


# the command
def test_the_table_has_every_pair_and_round(
    run: pairs_lit.Run, image_files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["apply", str(run.folder), *image_files]) == 0
    out = capsys.readouterr().out
    pair = run.apply([(image_files[0], image_files[1])]).pairs[0]
    assert f"{pair.probability.mean:.4f} ± {pair.probability.std:.4f} (n = 3)" in out
    assert all(f"{value:.4f}" in out for value in pair.rounds)
    assert "P(left ≤ right)" in out
    assert "trained on digits" in out


def test_a_notebook_shows_both_tables(run: pairs_lit.Run, image_files: list[str]) -> None:
    applied = run.apply([(image_files[0], image_files[1])])
    (pair,) = applied.pairs
    nasty = replace(applied, pairs=[replace(pair, names=("<b>", "a&b"))])
    texts = read_html(nasty._repr_html_())
    place = texts.index("<b>")
    assert texts[place + 1 : place + 4] == ["a&b", format_mean_and_std(pair.probability), pair.answer]
    assert texts[texts.index("pair 1") + 1 :][:2] == [str(applied.seeds[0]), f"{pair.rounds[0]:.4f}"]


def test_csv_and_json_agree(run: pairs_lit.Run, image_files: list[str], tmp_path: Path) -> None:
    files = {style: tmp_path / f"answers.{style}" for style in ("csv", "json")}
    for style, file in files.items():
        assert main(["apply", str(run.folder), *image_files, "--format", style, "--output", str(file)]) == 0
    rows = list(csv.DictReader(io.StringIO(files["csv"].read_text())))
    parsed = json.loads(files["json"].read_text())
    assert (parsed["n"], parsed["relation"], parsed["source"], parsed["run"]) == (3, "le", "digits", str(run.folder))
    assert len(rows) == 6
    for row in rows:
        pair = parsed["pairs"][int(row["pair"]) - 1]
        place = parsed["seeds"].index(int(row["seed"]))
        assert float(row["probability"]) == pair["probability"]["rounds"][place]
        assert float(row["mean"]) == pair["probability"]["mean"]
        assert float(row["std"]) == pair["probability"]["std"]
        assert int(row["left_read"]) == pair["left_read"]["rounds"][place]
        assert (row["left"], row["right"]) == (pair["left"], pair["right"])


@pytest.mark.parametrize(
    "text", ["0.png,1.png\n2.png,3.png\n", "left,right\n0.png,1.png\n\n2.png,3.png", "\ufeff0.png;1.png\n2.png;3.png\n"]
)
def test_pairs_are_read_from_a_table(
    text: str, run: pairs_lit.Run, image_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.csv").write_text(text, encoding="utf-8")
    assert main(["apply", str(run.folder), "--pairs", str(tmp_path / "pairs.csv"), "--format", "json"]) == 0
    parsed = json.loads(capsys.readouterr().out)["pairs"]
    assert [each for pair in parsed for each in (pair["left"], pair["right"])] == image_files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.png\n", "line 1: expected two paths, left and right, got '0.png'"),
        ("0.png,1.png\n2.png,\n", "line 2: expected two paths, left and right, got '2.png,'"),
        ("", "does not contain a pair"),
        ("left,right\n", "does not contain a pair"),
        ("gone.png,1.png\n", "gone.png does not exist. Check the path"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_wrong_table_is_named(
    text: str | None, message: str, run: pairs_lit.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "pairs.csv").write_text(text)
    assert main(["apply", str(run.folder), "--pairs", str(tmp_path / "pairs.csv")]) == 2
    assert message in capsys.readouterr().err


def test_unreadable_images_are_named_in_one_line(
    run: pairs_lit.Run, image_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blank, text, half = tmp_path / "blank.png", tmp_path / "text.png", tmp_path / "half.png"
    draw_seven(ink=255).save(blank)
    text.write_text("no image")
    whole = Path(image_files[0]).read_bytes()
    half.write_bytes(whole[: len(whole) // 2])
    cases = {
        str(blank): "blank.png is blank: no strokes stand out",
        str(text): "text.png is not a readable image (unknown format)",
        str(half): "half.png is not a readable image",
        str(tmp_path / "gone.png"): "gone.png does not exist. Check the path",
        str(tmp_path): "must be an image, got a folder. Give the images in it",
    }
    for file, message in cases.items():
        assert main(["apply", str(run.folder), image_files[0], file]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert len(lines) == 1
        assert message in lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["0.png"], "images must come in pairs, got 1. 0.png has no partner"),
        ([], "no images were named"),
        (["0.png", "1.png", "--pairs", "pairs.csv"], "images and --pairs pairs.csv cannot be combined"),
        (["0.png", "1.png", "--show", "show.gif"], "--show must end in one of .png"),
        (["0.png", "1.png", "--format", "yaml"], "invalid choice: 'yaml'"),
    ],
)
def test_wrong_arguments_are_reported(
    arguments: list[str], message: str, run: pairs_lit.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["apply", str(run.folder), *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_damaged_relation_is_named(run: pairs_lit.Run, image_files: list[str]) -> None:
    applied = replace(run, data=run.data | {"relation": "<b>"}).apply([(image_files[0], image_files[1])])
    with pytest.raises(PairsLitError, match=r"relation must be one of 'le', 'lt', 'ge', 'gt', got '<b>'"):
        format_result(applied, "text")


def test_a_folder_that_is_not_a_run_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["apply", "nowhere", "0.png", "1.png"]) == 2
    assert "nowhere is not a finished run" in capsys.readouterr().err


@pytest.mark.slow
def test_the_figure_shows_what_the_networks_saw(run: pairs_lit.Run, image_files: list[str], tmp_path: Path) -> None:
    applied = run.apply([(image_files[0], image_files[1])] * 2)
    figure = draw_result(applied)
    assert len(figure.axes) == 10
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), applied.images[0, 0])
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), applied.seen[0, 1])
    many = draw_result(
        replace(applied, pairs=applied.pairs * 30, images=applied.images.repeat(30, 0), seen=applied.seen.repeat(30, 0))
    )
    assert "the first 40 of 60 pairs" in many.get_suptitle()
    assert main(["apply", str(run.folder), *image_files, "--show", str(tmp_path / "show.svg")]) == 0
    assert (tmp_path / "show.svg").read_text().startswith("<?xml")
