"""``pairs-lit inspect``: what the rounds of a finished run get wrong, in figures, on a page and in TensorBoard."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from pairs_lit.analysis.figures import save
from pairs_lit.analysis.inspection.figures import FIGURES, inspection_figures
from pairs_lit.analysis.inspection.numbers import Inspection
from pairs_lit.analysis.inspection.page import MARK, page
from pairs_lit.commands.option_parser import OptionParser, add_run
from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.inference.inspection import inspected
from pairs_lit.inference.run import Run
from pairs_lit.runs.atomic_write import clear_leftovers, named, write_durably, write_text_durably
from pairs_lit.runs.run_folder import EVENTS

FOLDER = "inspect"
"""The folder in a run folder that an inspection is written into."""

PAGE = "report.md"
_SUFFIX = ".inspect"
_PAIRS = 12


def parser() -> OptionParser:
    """Return the parser of the command line."""
    found = OptionParser(
        prog="pairs-lit inspect",
        description="Look at a finished run: the pairs that most rounds get wrong, which digits are read as which, "
        "accuracy by distance and by classes, calibration, how well rounds agree, learning curves. All rounds are "
        f"shown the test pairs of the first seed. Writes RUN/{FOLDER}/{PAGE} with its figures, and puts these into the "
        "run's TensorBoard files (IMAGES, inspect/...). Called again, it writes its own files anew.",
    )
    add_run(found)
    found.add_argument("--pairs", type=int, default=_PAIRS, help="how many of the hardest pairs to draw")
    return found


def run(args: Sequence[str]) -> None:
    """Run the command."""
    options = parser().parse_args(args)
    check_positive("--pairs", options.pairs)
    opened = Run.load(options.run, allow_changed_code=options.allow_changed_code)
    found = inspect_run(opened, pairs=options.pairs)
    print(f"\n{found}\n\ninspected: {found.folder / FOLDER / PAGE}")


def inspect_run(run: Run | str | Path, *, pairs: int = _PAIRS, write: bool = True) -> Inspection:
    """Look at what the rounds of a finished run get wrong, how sure they are, and how well they agree.

    All rounds are shown one common set of pairs, the test pairs of the first seed, as ``predict`` does.

    Args:
        run: A run, or its folder.
        pairs: How many of the hardest pairs to keep.
        write: Write the page and its figures into the run's folder ``inspect``, and the figures into TensorBoard files
            of their own beside the run's.

    Returns:
        The numbers.

    Raises:
        PairsLitError: It is not a finished run with a checkpoint, all its rounds failed, its data are gone, or a file
            cannot be written.
    """
    check_positive("pairs", pairs)
    opened = run if isinstance(run, Run) else Run.load(run)
    found = inspected(opened, opened.trained, pairs)
    if write:
        write_inspection(found)
    return found


def write_inspection(found: Inspection) -> None:
    """Write the figures, TensorBoard's file and, last, the page; what an earlier call wrote is replaced."""
    folder = found.folder / FOLDER
    paths = {name: folder / f"{name}.png" for name in FIGURES}
    for path in (*paths.values(), folder / PAGE):
        with named(path):
            if path.is_file() and MARK.encode() not in path.read_bytes():
                raise PairsLitError(f"{path} exists and was not made by pairs-lit inspect: move it elsewhere.")
    figures = inspection_figures(found)
    for name, figure in figures.items():
        save(figure, paths[name], f"{MARK}: {found.label}, {found.basis}")
    for name in paths.keys() - figures.keys():
        with named(paths[name]):
            paths[name].unlink(missing_ok=True)
    _show_in_tensorboard(found, figures)
    write_text_durably(folder / PAGE, page(found, figures))
    clear_leftovers(folder, below=False)


def _show_in_tensorboard(found: Inspection, figures: Mapping[str, Figure]) -> None:
    """Write the figures into an event file of their own, which TensorBoard shows with those of the run."""
    from torch.utils.tensorboard.writer import SummaryWriter

    before = list(found.folder.glob(f"{EVENTS}.*{_SUFFIX}"))
    with tempfile.TemporaryDirectory() as aside:
        writer = SummaryWriter(aside, filename_suffix=_SUFFIX)
        for name, figure in figures.items():
            writer.add_figure(f"inspect/{name}", figure, found.curves.epochs, close=False)
        writer.close()
        (written,) = Path(aside).iterdir()
        with written.open("rb") as file:
            write_durably(found.folder / written.name, lambda target: shutil.copyfileobj(file, target))
    for path in before:
        if path.name != written.name:
            with named(path):
                path.unlink(missing_ok=True)
