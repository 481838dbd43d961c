"""Lightning's argument parser with readable one-line errors."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import is_dataclass
from functools import partial
from types import NoneType
from typing import Any, NoReturn, cast, get_args, get_type_hints

import yaml
from jsonargparse import Namespace
from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning.pytorch import Callback
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy

from pairs_lit.configuration.factory_options import wrap_factories
from pairs_lit.configuration.file_encoding import read_files_as_utf8
from pairs_lit.configuration.parser_messages import rewrite_message, wrap_inner_message
from pairs_lit.data.augment import Augmentation
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.yaml_text import build_yaml_error, load_yaml
from pairs_lit.system.paths import expand_user_path, has_home_prefix
from pairs_lit.system.tracebacks import format_reason, locate_error


def check_empty_sections(content: Mapping[str, object], options: Collection[str], prefix: str = "") -> None:
    """Raise PairsLitError if a config contains an empty section without options, which jsonargparse overlooks.

    Args:
        content: The config, or the section with this prefix.
        options: The dotted names of all options.
        prefix: The dotted name of the section, with a dot at its end.
    """
    for key, value in content.items():
        if isinstance(value, Mapping) and key not in ("init_args", "dict_kwargs"):
            name = f"{prefix}{key}"
            if not value and not any(f"{option}.".startswith(f"{name}.") for option in options):
                raise PairsLitError(f"unknown option {name} (pairs-lit fit --help all lists the options).")
            check_empty_sections(value, options, f"{name}.")


def check_nulls(config: Namespace, part: type, section: str) -> None:
    """Raise PairsLitError if a config sets an option to null whose type does not allow it.

    jsonargparse treats null in a file as "not set" and therefore does not report it.
    """
    for name, hint in get_type_hints(vars(part)["__init__"]).items():
        if name not in config:
            continue
        value, option = config[name], f"{section}.{name}"
        if value is None and NoneType not in get_args(hint):
            raise PairsLitError(f"{option} must not be null. Leave it out to use the default.")
        if is_dataclass(hint) and isinstance(hint, type):
            check_nulls(value, hint, option)


def expand_home_paths(value: Any) -> Any:  # noqa: ANN401 - a configuration, or any value of one
    """Replace ``~`` by the home folder in every text of a configuration that is a path in it."""
    match value:
        case Namespace():
            for key, entry in list(value.items()):
                value[key] = entry if key == "config" else expand_home_paths(entry)
        case list():
            return [expand_home_paths(entry) for entry in value]
        case dict():
            return {key: expand_home_paths(entry) for key, entry in value.items()}
        case str() if has_home_prefix(value):
            return str(expand_user_path(value))
    return value


class PairsParser(LightningArgumentParser):
    """Argument parser that raises PairsLitError instead of exiting."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise PairsLitError with a readable message; jsonargparse itself would print its usage and exit."""
        below = self._subcommands_action
        parsers = [self] if below is None else below.choices.values()
        options = [option for parser in parsers for option in parser._actions]
        if not self.exit_on_error:  # an inner parser for the settings of a class: the outer parser includes its error
            super().error(wrap_inner_message(message, options), ex)
        raise PairsLitError(
            f"{rewrite_message(message, options)} (pairs-lit fit --help all lists the options)."
        ) from ex

    def parse_args(self, *args: Any, **kwargs: Any) -> Namespace:  # type: ignore[override] # noqa: ANN401 - jsonargparse's own
        """Parse command-line arguments; the files that they name are read as UTF-8."""
        with read_files_as_utf8():
            return super().parse_args(*args, **kwargs)

    def parse_changes(self, config: Namespace, args: Sequence[str]) -> Namespace:
        """Parse further options of a configuration that has been parsed and checked.

        The other options are not checked again, which would take most of the time.
        """
        return self.parse_args(args, namespace=config, defaults=False, _skip_validation=True)

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Namespace:  # noqa: ANN401 - jsonargparse's own
        """Parse a configuration file."""
        try:
            return cast(Namespace, super().parse_path(path, *args, **kwargs))
        except UnicodeDecodeError as error:
            raise PairsLitError(f"--config {path} is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Namespace:  # noqa: ANN401 - jsonargparse's own
        """Parse the content of a configuration; raise PairsLitError if it has unknown sections."""
        content = content.removeprefix("\ufeff")  # some editors write a byte order mark before UTF-8 text
        name = str(kwargs.get("path") or "--config")
        try:
            config = load_yaml(content, name)
        except yaml.YAMLError as error:
            raise build_yaml_error(name, error) from error
        if not isinstance(config, Mapping):
            got = "nothing" if config is None else repr(config)[:60]
            raise PairsLitError(f"--config must contain sections such as data, model, trainer or rounds, got {got}.")
        wrapped = wrap_factories(config)
        text = content if wrapped == config else yaml.safe_dump(wrapped)
        parsed: Namespace = super().parse_string(text, *args, **kwargs)
        check_empty_sections(config, [action.dest for action in self._actions])
        return parsed

    def instantiate_classes(self, cfg: Namespace, **kwargs: Any) -> Namespace:  # noqa: ANN401 - jsonargparse's own
        """Build the objects of a configuration; report an error in a constructor with the name of its option."""
        errors: list[PairsLitError] = []
        builders = [(partial(_build_class, option, errors), kind, True) for kind, option in _OPTION_NAMES.items()]
        try:
            return cast(Namespace, self.instantiate(cfg, instantiators=builders, **kwargs))
        except ValueError:
            if not errors:
                raise
            raise errors[0] from errors[0].__cause__  # jsonargparse has wrapped it in a ValueError with a long text


_OPTION_NAMES: dict[type, str] = {
    Augmentation: "data.augment",
    Callback: "trainer.callbacks",
    Logger: "trainer.logger",
    Profiler: "trainer.profiler",
    Strategy: "trainer.strategy",
    Accelerator: "trainer.accelerator",
    **dict.fromkeys((Precision, ClusterEnvironment, CheckpointIO, LayerSync), "trainer.plugins"),
}


def _build_class(
    option: str,
    errors: list[PairsLitError],
    kind: Callable[..., Any],
    /,  # positional only, since the class may have parameters with these names
    *args: Any,  # noqa: ANN401 - any class
    **kwargs: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Build an object, and add an error of its constructor to ``errors`` with the name of the option."""
    try:
        return kind(*args, **kwargs)
    except PairsLitError as error:
        errors.append(error)
        raise
    except Exception as error:  # a constructor in user code may raise anything
        errors.append(PairsLitError(f"{option}: {kind.__name__}: {format_reason(error)} ({locate_error(error)})."))
        raise errors[-1] from error
