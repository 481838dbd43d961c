"""The name that a run has by default: its config's, and the classes that options put in place of the config's own."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from jsonargparse import Namespace

from pairs_lit.configuration.factory_options import builder_of, find_named, join_options, path_of_part
from pairs_lit.runs.run_folder import CONFIG, identity_of, name_from
from pairs_lit.runs.shipped_configs import find_config

_ROLES = ("network", "backbone", "head")
_LONGEST = 100


def name_run(config: Namespace, args: Sequence[str]) -> str:
    """Return the name of a run: ``--name`` or the config's ``name`` as given, else one made from the config's file.

    Where an option names another backbone, head or network than the config does, its class is added:
    ``--config cnn_aux --model.backbone my_nets.Small`` makes ``cnn_aux-Small``.

    Args:
        config: All options.
        args: The command line's arguments, of which the first is the command.
    """
    tokens = join_options(args)
    is_named = any(token.partition("=")[0] == "--name" for token in tokens)
    last = str((config.config or ["-"])[-1] or "-")  # text on the command line and the input have no name
    if config.name is not None and (is_named or not _is_of_run(Path(last))):
        return str(config.name)
    name = config.name or ("run" if last == "-" else name_from(Path(last).stem))
    return name_from("-".join([name, *_classes(config, tokens)]))[:_LONGEST]


def _is_of_run(file: Path) -> bool:
    """Return whether a config was written by a fit, and so has a name that nobody chose for the next one."""
    return file.name == CONFIG and identity_of(file.parent) is not None


def _classes(config: Namespace, tokens: Sequence[str]) -> Iterator[str]:
    """Yield the names of the classes that options put in place of the config's."""
    options = {token.partition("=")[0] for token in tokens}
    configs = [token.removeprefix("--config=") for token in tokens if token.startswith("--config=")]
    if "-" in configs:  # the input has been read
        return
    files = [f"--config={find_config(given)}" for given in configs]
    for role in _ROLES:
        option = f"--model.{role}"
        path = path_of_part(config.model[role])
        before = builder_of(*find_named(files, {"--config": ("model", role)}))
        if path is not None and path != before and options & {"--model", option, f"{option}.class_path"}:
            yield path.rpartition(".")[2]
