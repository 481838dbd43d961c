"""``pairs-lit export``: writes the networks of a run's rounds as files that other tools load."""

import json
from collections.abc import Callable, Sequence
from operator import methodcaller
from pathlib import Path
from typing import get_args

from pairs_lit.commands.option_parser import OptionParser, add_run
from pairs_lit.errors import PairsLitError, check_choice
from pairs_lit.inference.export.formats import SUFFIXES, ExportFormat, about, check_installed, exported
from pairs_lit.inference.open_run import open_run
from pairs_lit.inference.run import Run
from pairs_lit.inference.trained_rounds import Trained
from pairs_lit.runs.atomic_write import write_durably
from pairs_lit.system.paths import user_path

FOLDER = "export"
"""Where the files go within the run folder."""


def parser() -> OptionParser:
    """Return the parser of the command line."""
    found = OptionParser(
        prog="pairs-lit export",
        description="Write the plain network of each round of a finished run as a file: prepared pairs (N, 2, H, W) "
        "float32 in, P(relation) out, and digit logits where the network gives them. How images are prepared, "
        "class names, relation, seed and source of the data stand in the file's metadata.",
    )
    add_run(found)
    found.add_argument(
        "--to",
        required=True,
        choices=get_args(ExportFormat),
        help="onnx: for ONNX Runtime and the like (.onnx); torch: a program that torch.export.load reads without this "
        "package (.pt2); state_dict: the weights, under the names of the network's own classes (.safetensors)",
    )
    found.add_argument("--seed", type=_seeds, metavar="SEED", help="which rounds: 3, or 3,4,7, or all (default)")
    found.add_argument(
        "--output",
        type=user_path,
        help="the folder for the files, which are named seed_3.onnx and so on; or, of one round, the file "
        "(default: RUN/export)",
    )
    found.add_argument("--overwrite", action="store_true", help="replace files that exist")
    return found


def run(args: Sequence[str]) -> None:
    """Run the command."""
    options = parser().parse_args(args)
    check_installed(options.to)
    run = Run.load(options.run, allow_changed_code=options.allow_changed_code)
    export(run, options.to, options.seed, output=options.output, overwrite=options.overwrite, written=print)


def _seeds(text: str) -> list[int] | None:
    """Read seeds; all are None."""
    try:
        return None if text == "all" else [int(each) for each in text.split(",")]
    except ValueError as error:
        raise PairsLitError(f"--seed {text}: give a seed such as 3, several such as 3,4,7, or all.") from error


def export(
    run: Run | str | Path,
    to: ExportFormat,
    seeds: int | Sequence[int] | None = None,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    written: Callable[[Path], object] | None = None,
) -> list[Path]:
    """Write the networks of rounds as files.

    Args:
        run: A finished run, or its folder.
        to: ``onnx``, ``torch`` (``.pt2``) or ``state_dict`` (``.safetensors``).
        seeds: Which rounds; None: all.
        output: The folder for the files; of one round, it may be the file. None: the folder ``export`` in the run's.
        overwrite: Replace files that exist.
        written: Called with each file once it is there.

    Returns:
        The files, in the order of the seeds.

    Raises:
        PairsLitError: There is no such round, a file exists, or a network cannot be exported to this format.
    """
    check_choice("to", ExportFormat, to)
    check_installed(to)
    run = run if isinstance(run, Run) else Run.load(run)
    trained = open_run(run.folder, allow_changed_code=run.allow_changed_code)
    wanted = trained.seeds if seeds is None else [seeds] if isinstance(seeds, int) else seeds
    chosen = list(dict.fromkeys(wanted))
    for seed in chosen:
        trained.check_seed(seed)
    files = _files(run.folder / FOLDER if output is None else user_path(output), to, chosen)
    taken = [] if overwrite else [path for path in files if path.exists()]
    if taken:
        raise PairsLitError(f"{taken[0]} exists already: add --overwrite, or name another --output.")
    for seed, path in zip(chosen, files, strict=True):
        content = _content(run, trained, to, seed)
        write_durably(path, methodcaller("write", content))
        if written is not None:
            written(path)
    return files


def _files(output: Path, to: ExportFormat, seeds: Sequence[int]) -> list[Path]:
    """Return the file of each round."""
    suffix = SUFFIXES[to]
    if output.suffix != suffix or output.is_dir():
        if output.suffix in SUFFIXES.values() or output.is_file():
            raise PairsLitError(f"--output {output}: a file for --to {to} must end in {suffix}; or name a folder.")
        return [output / f"seed_{seed}{suffix}" for seed in seeds]
    if len(seeds) > 1:
        raise PairsLitError(f"--output {output} is one file, but there are {len(seeds)} rounds: name a folder.")
    return [output]


def _content(run: Run, trained: Trained, to: ExportFormat, seed: int) -> bytes:
    """Return the file of one round; an error names the round."""
    network, prepare = trained.network(seed), trained.preprocessing(seed)
    model = json.dumps(run.config["model"], default=str)
    facts = {"seed": str(seed), "source": str(run.data["source"]), "model": model}
    facts |= {"note": trained.note} if trained.note else {}
    said = about(prepare, str(run.data["relation"]), facts, trained.image_format, run.class_names)
    try:
        return exported(to, network, prepare, said)
    except PairsLitError as error:
        raise PairsLitError(f"seed {seed}: {error}") from error
