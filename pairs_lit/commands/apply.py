"""``pairs-lit apply``: what the rounds of a finished run say of pictures of one's own."""

import csv
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from pairs_lit.commands.option_parser import OptionParser, add_run, check_figure, give
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.run import FinishedRun
from pairs_lit.system.console import notice
from pairs_lit.system.paths import user_path

if TYPE_CHECKING:
    from pairs_lit.inference.predictions import Applied
    from pairs_lit.inference.run import Run
    from pairs_lit.inference.user_images import Picture

_FORMATS = ("text", "csv", "json")


def parser() -> OptionParser:
    """Return the parser of the command line."""
    found = OptionParser(
        prog="pairs-lit apply",
        description="Show pairs of your own images to all rounds of a finished run: P(relation) of each round, their "
        "mean and std, and what the rounds read in each image. An image that looks like the run's training images is "
        "used as it is. In any other one (a drawing, scan or photo, dark on light or light on dark) the strokes are "
        "found, and scaled and placed as in the training images: for MNIST, into 20×20 pixels, centred by mass in "
        "28×28, light on dark. Draw with a thick pen, one digit in an image.",
    )
    add_run(found)
    found.add_argument("pictures", nargs="*", metavar="PICTURE", help="left and right picture of each pair")
    found.add_argument(
        "--pairs",
        type=user_path,
        help="a CSV file of two columns of paths, relative to it, in place of these",
    )
    found.add_argument(
        "--as-is",
        action="store_true",
        help="only make images grey and resize them: they are stored as the training images are",
    )
    found.add_argument("--format", default="text", choices=_FORMATS, help="of the answers")
    found.add_argument("--output", type=user_path, help="write the answers to this file instead of the screen")
    found.add_argument("--show", type=user_path, help="draw what the networks saw and said; .png, .svg or .pdf")
    return found


def run(args: Sequence[str]) -> None:
    """Run the command."""
    options = parser().parse_args(args)
    check_figure("--show", options.show)
    pairs = _given(options.pictures, options.pairs)
    FinishedRun.load(options.run)  # its errors come before the seconds that the networks' libraries take
    notice("loading PyTorch and Lightning …")
    from pairs_lit.inference.result_formats import format_result
    from pairs_lit.inference.run import Run

    applied = Run.load(options.run, allow_changed_code=options.allow_changed_code).apply(pairs, as_is=options.as_is)
    give(format_result(applied, options.format), options.output)
    if options.show is not None:
        from pairs_lit.analysis.figures import save
        from pairs_lit.inference.result_figure import draw_result

        save(draw_result(applied), options.show)


def apply(run: "Run", pairs: Sequence[tuple["Picture", "Picture"]], *, as_is: bool = False) -> "Applied":
    """Return what each round of a run says of pairs of images, as ``pairs-lit apply`` does; see :meth:`Run.apply`."""
    return run.apply(pairs, as_is=as_is)


def _given(pictures: Sequence[str], file: Path | None) -> list[tuple[str | Path, str | Path]]:
    """Return the pairs that were named, on the command line or in a file."""
    if file is not None and pictures:
        raise PairsLitError(f"images and --pairs {file} were given: give one of them.")
    if file is not None:
        return list(read_pairs(file))
    if not pictures:
        raise PairsLitError("no images were given: name a left and a right one for each pair, or --pairs FILE.")
    if len(pictures) % 2:
        count, last = len(pictures), pictures[-1]
        raise PairsLitError(f"{count} images were given, and {last} has no partner: give two for each pair.")
    return list(zip(pictures[::2], pictures[1::2], strict=True))


def _rows(text: str, file: Path) -> tuple[list[tuple[int, list[str]]], str]:
    """Return the rows that are not empty, each with the number of its last line, and what separates their cells."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    unquoted = re.sub(r'"[^"]*"', "", first)
    separator = next((mark for mark in (",", ";", "\t") if mark in unquoted), ",")
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        return [(reader.line_num, row) for row in reader if any(map(str.strip, row))], separator
    except csv.Error as error:
        raise PairsLitError(f"{file}, line {reader.line_num}: {error}: give a CSV file of two columns.") from error


def read_pairs(file: Path) -> list[tuple[Path, Path]]:
    """Read a CSV file of two columns of paths, relative to it; a first line that names no files is a header.

    Columns are separated by commas, semicolons or tabs, as its first line is.

    Raises:
        PairsLitError: It cannot be read, a line has not two columns, or there are none.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text in UTF-8"
        raise PairsLitError(f"{file} cannot be read ({reason}): give a CSV file of two columns of paths.") from error
    rows, separator = _rows(text, file)
    for place, row in rows:
        if len(row) != 2 or not all(map(str.strip, row)):
            found = separator.join(row)
            raise PairsLitError(f"{file}, line {place}: {found!r}: two paths are needed, left and right.")
    pairs = [tuple(file.parent / user_path(cell.strip()) for cell in row) for _, row in rows]
    if pairs and not any(path.suffix or path.exists() for path in pairs[0]):
        del pairs[0]
    if not pairs:
        raise PairsLitError(f"{file} holds no pairs: write a left and a right image in each line.")
    return [(left, right) for left, right in pairs]
