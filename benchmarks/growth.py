"""Growth of time and memory with rounds, trials of a sweep, pixels, pairs and pictures.

``python benchmarks/growth.py`` prints one table and writes ``docs/growth.md``; ``--quick`` only prints a table of small
numbers. Each row is one command in a new process: its time from the shell prompt to its end, and the peak memory of its
largest process. Networks, pairs and epochs are few, so that what grows is not hidden by training.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from PIL import Image, ImageDraw
from tabulate import tabulate

from pairs_lit.runs.atomic_write import write_text_atomically
from pairs_lit.system.memory import get_peak_memory

CONFIGS = Path(__file__).parent.parent / "configs"
PAGE = Path(__file__).parent.parent / "docs" / "growth.md"
PHOTO_SIZE = (4000, 3000)
NUM_PHOTOS, NUM_FILES = 4, 64
"""Photos that are drawn, and files that contain them; each file is decoded."""


def build_fit(folder: Path, config: str = "fc_aux", **changes: int) -> list[str]:
    """Return a fit of one epoch on few pairs of the bundled digits; double underscores in an option stand for dots."""
    options = {"data__train_pairs": 20, "data__val_pairs": 10, "data__test_pairs": 10, "trainer__max_epochs": 1}
    texts = [f"--{name.replace('__', '.')}={value}" for name, value in (options | changes).items()]
    fixed = ["--data.source=digits", f"--trainer.default_root_dir={folder}"]
    return ["fit", "--config", str(CONFIGS / f"{config}.yaml"), *fixed, *texts]


def build_rounds(count: int, folder: Path) -> list[str]:
    """Return a fit with this many rounds."""
    return build_fit(folder, rounds__count=count)


def build_trials(count: int, folder: Path) -> list[str]:
    """Return a sweep over this many values of α, with two rounds each."""
    file = folder / "sweep.yaml"
    space = {"model.loss.aux_weight": [number / 1000 for number in range(1, count + 1)]}
    file.write_text(yaml.safe_dump({"space": space, "rounds": {"count": 2}}), encoding="utf-8")
    return ["sweep", f"--sweep={file}", *build_fit(folder)[1:]]


def build_pixels(side: int, folder: Path) -> list[str]:
    """Return a fit of ten convolutional networks on images of this height and width."""
    return build_fit(folder, "cnn_aux", rounds__count=10, data__resize=side, data__image_size=side, data__val_pairs=500)


def build_pairs(count: int, folder: Path) -> list[str]:
    """Return a fit of one round with this many training pairs."""
    return build_fit(folder, rounds__count=1, data__train_pairs=count)


def build_pictures(count: int, folder: Path) -> list[str]:
    """Return ``apply`` of the run in the folder for this many pairs of photos."""
    (run,) = folder.glob("lightning_logs/*/*")
    files, file = draw_photos(folder), folder / "pairs.csv"
    pairs = [(files[2 * place % NUM_FILES], files[(2 * place + 1) % NUM_FILES]) for place in range(count)]
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(pairs)
    return ["apply", str(run), "--pairs", str(file)]


def draw_photos(folder: Path) -> list[str]:
    """Draw photos of strokes on grey paper, and return the names of the files that contain them."""
    files = [folder / f"photo{number}.jpg" for number in range(NUM_FILES)]
    for number, file in enumerate(files):
        if number >= NUM_PHOTOS:
            file.hardlink_to(files[number % NUM_PHOTOS])
            continue
        photo = Image.effect_noise(PHOTO_SIZE, 16).convert("RGB")
        ImageDraw.Draw(photo).line([(1200, 700), (2500, 700), (1500 + 200 * number, 2300)], (20, 20, 30), 250)
        photo.save(file, quality=90)
    return [file.name for file in files]


@dataclass(frozen=True)
class Curve:
    """A command with a number that grows.

    Attributes:
        title: What grows.
        build: Returns the arguments of pairs-lit for a number and a folder.
        numbers: The numbers to measure.
        quick: The number for ``--quick``.
        needs_run: Whether the folder must hold a finished run.
    """

    title: str
    build: Callable[[int, Path], list[str]]
    numbers: Sequence[int]
    quick: int
    needs_run: bool = False


CURVES = {
    "rounds": Curve("rounds of a fit", build_rounds, (1, 10, 100, 1000), 2),
    "trials": Curve("trials of a sweep, two rounds each", build_trials, (30, 100, 300, 1000), 2),
    "pixels": Curve("height = width of images, ten rounds", build_pixels, (14, 28, 56, 112), 14),
    "pairs": Curve("training pairs of a round", build_pairs, (1000, 10_000, 100_000), 20),
    "pictures": Curve("pairs of 12-megapixel photos in apply", build_pictures, (1, 10, 100, 2000), 1, needs_run=True),
}


@dataclass(frozen=True)
class Cost:
    """The cost of a command: its time in seconds, and the peak memory of its largest process in MiB."""

    seconds: float
    mebibytes: float


def measure(name: str, number: int, folder: Path) -> Cost:
    """Return the cost of one point of a curve, measured by a separate process.

    Args:
        name: The curve.
        number: The number that grows.
        folder: An empty folder for the command's files.

    Raises:
        RuntimeError: The command failed.
    """
    if CURVES[name].needs_run:
        measure("rounds", 1, folder)  # here, so that its memory does not count
    arguments = ["--point", name, str(number), "--folder", str(folder)]
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed: {done.stderr[-2000:]}")
    return Cost(**json.loads(done.stdout))


def measure_here(name: str, number: int, folder: Path) -> Cost:
    """Run the command of one point as the only child of this process, and return its cost."""
    command = [sys.executable, "-m", "pairs_lit", *CURVES[name].build(number, folder)]
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return Cost(time.monotonic() - start, get_peak_memory(of_children=True))


def measure_curves(*, quick: bool) -> list[list[str]]:
    """Measure all points of all curves, and return the rows of the table."""
    rows = []
    for name, curve in CURVES.items():
        for number in [curve.quick] if quick else curve.numbers:
            with tempfile.TemporaryDirectory() as folder:
                cost = measure(name, number, Path(folder))
            rows.append([curve.title, f"{number:,}", f"{cost.seconds:.1f} s", f"{cost.mebibytes:,.0f} MiB"])
            print(": ".join(rows[-1]), file=sys.stderr, flush=True)
    return rows


def render(rows: Sequence[Sequence[str]]) -> str:
    """Return the table and the notes below it as Markdown."""
    table = tabulate(rows, ["what grows", "number", "time", "peak memory"], tablefmt="github", disable_numparse=True)
    return (
        f"{table}\n\n"
        "Each row is one command in a new process: its time from the shell prompt to its end, and the peak memory of "
        f"its largest process. {os.cpu_count()} cores; one epoch on 20 pairs (pairs: as stated; pixels: 500 validation "
        f"pairs) of the bundled digits, with `fc_aux` (pixels: `cnn_aux`). The photos are in {NUM_FILES} files, each "
        "of which is decoded once. `python benchmarks/growth.py` writes this page.\n"
    )


def main() -> None:
    """Measure, print the table and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="measure one small number of each, and write no page")
    parser.add_argument("--point", nargs=2, metavar=("CURVE", "NUMBER"), help="print the cost of one point as JSON")
    parser.add_argument("--folder", type=Path, help="with --point: an empty folder for the command's files")
    options = parser.parse_args()
    if options.point is not None:
        cost = measure_here(options.point[0], int(options.point[1]), options.folder)
        print(json.dumps({"seconds": cost.seconds, "mebibytes": cost.mebibytes}))
        return
    text = render(measure_curves(quick=options.quick))
    print(text)
    if not options.quick:
        write_text_atomically(PAGE, f"# Speed: growth\n\n{text}")


if __name__ == "__main__":
    main()
