"""``pairs-lit apply``: predictions of a finished run for the user's image pairs."""

import csv
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from pairs_lit.commands.option_parser import (
    OptionParser,
    add_run_argument,
    check_figure_path,
    check_output_paths,
    write_or_print,
)
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.run import FinishedRun
from pairs_lit.system.console import print_notice
from pairs_lit.system.imports import load_libraries
from pairs_lit.system.paths import expand_patterns, expand_user_path

if TYPE_CHECKING:
    from pairs_lit.inference.predictions import ApplyResult
    from pairs_lit.inference.run import Run
    from pairs_lit.inference.user_images import ImageLike

_OUTPUT_FORMATS = ("text", "csv", "json")


def build_parser() -> OptionParser:
    """Build the argument parser of the command."""
    parser = OptionParser(
        prog="pairs-lit apply",
        description="Predict your own image pairs with all rounds of a finished run. The output lists P(relation) of "
        "each round, the mean and standard deviation, and the digit that the rounds read in each image. Images that "
        "look like the run's training images are used unchanged. All others (drawings, scans, photos, dark on light "
        "or light on dark) are converted to the format of the training images: for MNIST, the strokes are scaled to "
        "20×20 pixels and centred by mass in 28×28, light on dark. Draw one digit per image, with a thick pen.",
    )
    add_run_argument(parser)
    images = "image files, or patterns such as drawings/*: left and right image of each pair"
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=images)
    parser.add_argument(
        "--pairs",
        type=expand_user_path,
        help="CSV file that lists the pairs instead: one row per pair, two columns with paths relative to the file",
    )
    parser.add_argument(
        "--as-is",
        action="store_true",
        help="only convert to greyscale and resize, for images that already have the format of the training images",
    )
    parser.add_argument("--format", default="text", choices=_OUTPUT_FORMATS, help="output format (default: text)")
    parser.add_argument("--output", type=expand_user_path, help="file to write the output to (default: print it)")
    parser.add_argument(
        "--show",
        type=expand_user_path,
        help="file (.png, .svg or .pdf) for a figure of the converted images and the predictions",
    )
    return parser


def run(args: Sequence[str]) -> None:
    """Run the command."""
    options = build_parser().parse_args(args)
    check_figure_path("--show", options.show)
    check_output_paths({"--output": options.output, "--show": options.show})
    pairs = _collect_pairs(expand_patterns(options.images), options.pairs)
    FinishedRun.load(options.run)  # reports a wrong folder at once, before PyTorch is loaded
    print_notice("loading PyTorch and Lightning …")
    with load_libraries():
        from pairs_lit.inference.result_formats import format_result
        from pairs_lit.inference.run import Run

    applied = Run.load(options.run, allow_changed_code=options.allow_changed_code).apply(pairs, as_is=options.as_is)
    write_or_print(format_result(applied, options.format), options.output)
    if options.show is not None:
        from pairs_lit.analysis.figures import save_figure
        from pairs_lit.inference.result_figure import draw_result

        save_figure(draw_result(applied), options.show)


def apply(run: "Run", pairs: Sequence[tuple["ImageLike", "ImageLike"]], *, as_is: bool = False) -> "ApplyResult":
    """Predict image pairs with each round of a run, as ``pairs-lit apply`` does; see :meth:`Run.apply`."""
    return run.apply(pairs, as_is=as_is)


def _collect_pairs(images: Sequence[str], file: Path | None) -> list[tuple[str | Path, str | Path]]:
    """Return the image pairs that the command line or the CSV file names."""
    if file is not None and images:
        raise PairsLitError(f"images and --pairs {file} cannot be combined. Name the images in one of the two ways.")
    if file is not None:
        return list(read_pairs(file))
    if not images:
        raise PairsLitError("no images were named. Name a left and a right image for each pair, or add --pairs FILE.")
    if len(images) % 2:
        count, last = len(images), images[-1]
        raise PairsLitError(
            f"images must come in pairs, got {count}. {last} has no partner; name two images for each pair."
        )
    return list(zip(images[::2], images[1::2], strict=True))


def _split_rows(text: str, file: Path) -> tuple[list[tuple[int, list[str]]], str]:
    """Return the non-empty rows of a CSV text, each with the number of its last line, and the column separator."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    unquoted = re.sub(r'"[^"]*"', "", first)
    separator = next((mark for mark in (",", ";", "\t") if mark in unquoted), ",")
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        return [(reader.line_num, row) for row in reader if any(map(str.strip, row))], separator
    except csv.Error as error:
        raise PairsLitError(f"{file}, line {reader.line_num}: {error}. Use a CSV file with two columns.") from error


def read_pairs(file: Path) -> list[tuple[Path, Path]]:
    """Read image pairs from a CSV file with two columns of paths, which are relative to the file.

    The columns are separated by commas, semicolons or tabs; the first line decides which. It is skipped as a header if
    it does not name files.

    Raises:
        PairsLitError: The file cannot be read, a line does not have two columns, or the file does not contain a pair.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise PairsLitError(f"{file} cannot be read ({reason}). Use a CSV file with two columns of paths.") from error
    rows, separator = _split_rows(text, file)
    for line, row in rows:
        if len(row) != 2 or not all(map(str.strip, row)):
            content = separator.join(row)
            raise PairsLitError(f"{file}, line {line}: expected two paths, left and right, got {content!r}.")
    pairs = [tuple(file.parent / expand_user_path(cell.strip()) for cell in row) for _, row in rows]
    if pairs and not any(path.suffix or path.exists() for path in pairs[0]):
        del pairs[0]
    if not pairs:
        raise PairsLitError(f"{file} does not contain a pair. Write a left and a right path in each line.")
    return [(left, right) for left, right in pairs]
