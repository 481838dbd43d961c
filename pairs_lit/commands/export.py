"""``pairs-lit export``: export of each round's network to ONNX, torch.export or safetensors."""

import json
from collections.abc import Callable, Sequence
from operator import methodcaller
from pathlib import Path
from typing import get_args

from pairs_lit.commands.option_parser import OptionParser, add_run_argument
from pairs_lit.errors import PairsLitError, check_choice
from pairs_lit.inference.export.formats import SUFFIXES, ExportFormat, build_metadata, check_installed, export_network
from pairs_lit.inference.open_run import open_run
from pairs_lit.inference.run import Run
from pairs_lit.inference.trained_rounds import TrainedRounds
from pairs_lit.runs.atomic_write import write_atomically
from pairs_lit.system.file_names import check_output_path
from pairs_lit.system.paths import expand_user_path

FOLDER = "export"
"""The subfolder of the run folder that the files are written to by default."""


def build_parser() -> OptionParser:
    """Build the argument parser of the command."""
    parser = OptionParser(
        prog="pairs-lit export",
        description="Export the single-round network of each round of a finished run to a file. The network maps "
        "preprocessed pairs (N, 2, H, W) float32 to P(relation), and to digit logits if it has them. The metadata of "
        "the file describe the preprocessing, the class names, the relation, the seed and the data source.",
    )
    add_run_argument(parser)
    parser.add_argument(
        "--to",
        required=True,
        choices=get_args(ExportFormat),
        help="file format. onnx: a model for ONNX Runtime and similar tools (.onnx); torch: a program that "
        "torch.export.load reads without this package (.pt2); state_dict: the weights, named as in the network's "
        "class (.safetensors)",
    )
    parser.add_argument(
        "--seed", type=_parse_seeds, metavar="SEED", help="rounds to export: 3, or 3,4,7, or all (default: all)"
    )
    parser.add_argument(
        "--output",
        type=expand_user_path,
        help="folder for the files seed_3.onnx and so on, or the file itself if only one round is exported "
        "(default: RUN/export)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files (default: report an error)")
    return parser


def run(args: Sequence[str]) -> None:
    """Run the command."""
    options = build_parser().parse_args(args)
    check_installed(options.to)
    run = Run.load(options.run, allow_changed_code=options.allow_changed_code)
    export(run, options.to, options.seed, output=options.output, overwrite=options.overwrite, written=print)


def _parse_seeds(text: str) -> list[int] | None:
    """Parse a list of seeds; return None for "all"."""
    try:
        return None if text == "all" else [int(seed) for seed in text.split(",")]
    except ValueError as error:
        raise PairsLitError(f"--seed must be a seed such as 3, a list such as 3,4,7, or all, got {text}.") from error


def export(
    run: Run | str | Path,
    to: ExportFormat,
    seeds: int | Sequence[int] | None = None,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    written: Callable[[Path], object] | None = None,
) -> list[Path]:
    """Export the networks of a run's rounds to files.

    Args:
        run: The finished run, or its folder.
        to: The file format: ``onnx``, ``torch`` (``.pt2``) or ``state_dict`` (``.safetensors``).
        seeds: The seeds of the rounds to export, or None for all rounds.
        output: The folder for the files, or the file itself if only one round is exported. None stands for the folder
            ``export`` in the run folder.
        overwrite: Replace existing files.
        written: A callback that receives the path of each file once it has been written.

    Returns:
        The files, in the order of the seeds.

    Raises:
        PairsLitError: A seed is unknown, a file exists, or a network cannot be exported to this format.
    """
    check_choice("to", ExportFormat, to)
    check_installed(to)
    run = run if isinstance(run, Run) else Run.load(run)
    trained = open_run(run.folder, allow_changed_code=run.allow_changed_code)
    requested = trained.seeds if seeds is None else [seeds] if isinstance(seeds, int) else seeds
    chosen = list(dict.fromkeys(requested))
    for seed in chosen:
        trained.check_seed(seed)
    target = run.folder / FOLDER if output is None else expand_user_path(output)
    check_output_path("--output", target)
    files = _choose_paths(target, to, chosen)
    existing = [] if overwrite else [path for path in files if path.exists()]
    if existing:
        raise PairsLitError(f"{existing[0]} already exists. Add --overwrite, or choose another --output.")
    for seed, path in zip(chosen, files, strict=True):
        content = _export_round(run, trained, to, seed)
        write_atomically(path, methodcaller("write", content))
        if written is not None:
            written(path)
    return files


def _choose_paths(output: Path, to: ExportFormat, seeds: Sequence[int]) -> list[Path]:
    """Return the path of each round's file."""
    suffix = SUFFIXES[to]
    if output.suffix != suffix or output.is_dir():
        if output.suffix in SUFFIXES.values() or output.is_file():
            raise PairsLitError(f"--output must be a folder or a file ending in {suffix} for --to {to}, got {output}.")
        return [output / f"seed_{seed}{suffix}" for seed in seeds]
    if len(seeds) > 1:
        raise PairsLitError(f"--output must be a folder for {len(seeds)} rounds, got the file {output}.")
    return [output]


def _export_round(run: Run, trained: TrainedRounds, to: ExportFormat, seed: int) -> bytes:
    """Return the content of one round's file; add the seed to the message of an error."""
    network, prepare = trained.network(seed), trained.preprocessing(seed)
    model = json.dumps(run.config["model"], default=str)
    facts = {"seed": str(seed), "source": str(run.data["source"]), "model": model}
    facts |= {"note": trained.note} if trained.note else {}
    metadata = build_metadata(prepare, str(run.data["relation"]), facts, trained.image_format, run.class_names)
    try:
        return export_network(to, network, prepare, metadata)
    except PairsLitError as error:
        raise PairsLitError(f"seed {seed}: {error}") from error
