"""Default names of runs, built from the config's file name and from the classes that options replace."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from jsonargparse import Namespace

from pairs_lit.configuration.factory_options import find_part, get_builder_path, get_part_path, join_options
from pairs_lit.runs.run_folder import CONFIG_FILE, is_unmarked_run, read_run_identity, to_run_name
from pairs_lit.runs.shipped_configs import find_config

_PART_NAMES = ("network", "backbone", "head")


def choose_run_name(config: Namespace, args: Sequence[str]) -> str:
    """Return the name of a run: ``--name``, else the config's ``name``, else one built from the config's file name.

    If an option replaces the backbone, head or network of the config, the name of the new class is appended:
    ``--config cnn_aux --model.backbone my_nets.Small`` gives ``cnn_aux-Small``.

    Args:
        config: All options.
        args: The arguments of the command line; the first one is the command.
    """
    tokens = join_options(args)
    is_named = any(token.partition("=")[0] == "--name" for token in tokens)
    # standard input ("-") and a config given as text do not have a file name
    last = str((config.config or ["-"])[-1] or "-")
    if config.name is not None and (is_named or not _is_run_config(Path(last))):
        return str(config.name)
    name = config.name or ("run" if last == "-" else to_run_name(Path(last).stem))
    return to_run_name("-".join([name, *_iter_replacing_classes(config, tokens)]))


def _is_run_config(file: Path) -> bool:
    """Return whether the config is that of an earlier run, so that its name was not chosen for the new run."""
    is_in_run = read_run_identity(file.parent) is not None or is_unmarked_run(file.parent)
    return file.name == CONFIG_FILE and is_in_run


def _iter_replacing_classes(config: Namespace, tokens: Sequence[str]) -> Iterator[str]:
    """Yield the names of the classes by which options replace those of the config."""
    options = {token.partition("=")[0] for token in tokens}
    configs = [token.removeprefix("--config=") for token in tokens if token.startswith("--config=")]
    if "-" in configs:  # standard input has already been read and cannot be read again
        return
    files = [f"--config={find_config(name)}" for name in configs]
    for role in _PART_NAMES:
        option = f"--model.{role}"
        path = get_part_path(config.model[role])
        path_in_config = get_builder_path(*find_part(files, {"--config": ("model", role)}))
        if path is not None and path != path_in_config and options & {"--model", option, f"{option}.class_path"}:
            yield path.rpartition(".")[2]
