"""``pairs-lit inspect``: error analysis of a finished run, as a report with figures and in TensorBoard."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from pairs_lit.analysis.figures import save_figure
from pairs_lit.analysis.inspection.figures import FIGURE_NAMES, draw_inspection
from pairs_lit.analysis.inspection.numbers import Inspection
from pairs_lit.analysis.inspection.page import MARK, render_page
from pairs_lit.commands.option_parser import OptionParser, add_run_argument
from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.inference.inspection import build_inspection
from pairs_lit.inference.run import Run
from pairs_lit.runs.atomic_write import remove_temp_files, translate_os_errors, write_atomically, write_text_atomically
from pairs_lit.runs.run_folder import EVENTS_PREFIX
from pairs_lit.system.files import delete_file

FOLDER = "inspect"
"""The subfolder of a run folder that the report is written to."""

PAGE = "report.md"
_EVENT_SUFFIX = ".inspect"
_DEFAULT_PAIRS = 12


def build_parser() -> OptionParser:
    """Build the argument parser of the command."""
    parser = OptionParser(
        prog="pairs-lit inspect",
        description="Analyse the errors of a finished run: the pairs that most rounds get wrong, confused digits, "
        "accuracy by distance and by class, calibration, agreement of the rounds and learning curves. All rounds "
        f"predict the test pairs of the first seed. The report is RUN/{FOLDER}/{PAGE}; its figures also appear in "
        "TensorBoard (IMAGES, inspect/...). Rerunning replaces the previous report.",
    )
    add_run_argument(parser)
    parser.add_argument(
        "--pairs", type=int, default=_DEFAULT_PAIRS, help=f"number of hardest pairs to draw (default: {_DEFAULT_PAIRS})"
    )
    return parser


def run(args: Sequence[str]) -> None:
    """Run the command."""
    options = build_parser().parse_args(args)
    check_positive("--pairs", options.pairs)
    opened = Run.load(options.run, allow_changed_code=options.allow_changed_code)
    inspection = inspect_run(opened, pairs=options.pairs)
    print(f"\n{inspection}\n\nreport: {inspection.folder / FOLDER / PAGE}")


def inspect_run(run: Run | str | Path, *, pairs: int = _DEFAULT_PAIRS, write: bool = True) -> Inspection:
    """Analyse the errors, the confidence and the agreement of the rounds of a finished run.

    All rounds predict the same pairs: the test pairs of the first seed, as in ``predict``.

    Args:
        run: The run, or its folder.
        pairs: The number of the hardest pairs to keep.
        write: Write the report and its figures into the folder ``inspect`` of the run, and the figures also into
            separate TensorBoard files next to those of the run.

    Returns:
        The results of the analysis.

    Raises:
        PairsLitError: The run is not finished, lacks a checkpoint, or all its rounds failed; its data are missing; or a
            file cannot be written.
    """
    check_positive("pairs", pairs)
    opened = run if isinstance(run, Run) else Run.load(run)
    inspection = build_inspection(opened, opened.trained, pairs)
    if write:
        write_inspection(inspection)
    return inspection


def write_inspection(inspection: Inspection) -> None:
    """Write the figures, the TensorBoard file and finally the report; replace those of an earlier call.

    Raises:
        PairsLitError: A file cannot be written, or would replace one that this command did not write.
    """
    folder = inspection.folder / FOLDER
    paths = {name: folder / f"{name}.png" for name in FIGURE_NAMES}
    for path in (*paths.values(), folder / PAGE):
        with translate_os_errors(path):
            if path.is_file() and MARK.encode() not in path.read_bytes():
                raise PairsLitError(f"{path} exists, but pairs-lit inspect did not write it. Move it elsewhere.")
    figures = draw_inspection(inspection)
    for name, figure in figures.items():
        save_figure(figure, paths[name], f"{MARK}: {inspection.label}, {inspection.basis}")
    for name in paths.keys() - figures.keys():
        with translate_os_errors(paths[name]):
            delete_file(paths[name])
    _write_tensorboard_figures(inspection, figures)
    write_text_atomically(folder / PAGE, render_page(inspection, figures))
    remove_temp_files(folder, below=False)


def _write_tensorboard_figures(inspection: Inspection, figures: Mapping[str, Figure]) -> None:
    """Write the figures into a separate event file in the run folder, which TensorBoard shows as part of the run."""
    from torch.utils.tensorboard.writer import SummaryWriter

    previous = list(inspection.folder.glob(f"{EVENTS_PREFIX}.*{_EVENT_SUFFIX}"))
    with tempfile.TemporaryDirectory() as temporary_folder:
        writer = SummaryWriter(temporary_folder, filename_suffix=_EVENT_SUFFIX)
        for name, figure in figures.items():
            writer.add_figure(f"inspect/{name}", figure, inspection.curves.epochs, close=False)
        writer.close()
        (written,) = Path(temporary_folder).iterdir()
        with written.open("rb") as file:
            write_atomically(inspection.folder / written.name, lambda target: shutil.copyfileobj(file, target))
    for path in previous:
        if path.name != written.name:
            with translate_os_errors(path):
                delete_file(path)
