"""The parser of the command line: Lightning's own, with errors in one readable line."""

from collections.abc import Callable, Collection, Mapping
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

from pairs_lit.configuration.factory_options import with_built
from pairs_lit.configuration.parser_messages import inner, readable
from pairs_lit.data.augment import Augmentation
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.yaml_text import load, not_yaml
from pairs_lit.system.paths import is_in_home, user_path
from pairs_lit.system.tracebacks import place_of, reason_of


def check_empty_sections(content: Mapping[str, object], options: Collection[str], prefix: str = "") -> None:
    """Refuse an empty section, below the prefix, for which there are no options; jsonargparse does not see it."""
    for key, value in content.items():
        if isinstance(value, Mapping) and key not in ("init_args", "dict_kwargs"):
            name = f"{prefix}{key}"
            if not value and not any(f"{option}.".startswith(f"{name}.") for option in options):
                raise PairsLitError(f"{name}: there is no such option (pairs-lit COMMAND --help lists the options).")
            check_empty_sections(value, options, f"{name}.")


def check_nulls(config: Namespace, part: type, section: str) -> None:
    """Refuse null for an option of a class that cannot be null; in a file, jsonargparse reads it as "not set"."""
    for name, hint in get_type_hints(vars(part)["__init__"]).items():
        if name not in config:
            continue
        value, option = config[name], f"{section}.{name}"
        if value is None and NoneType not in get_args(hint):
            raise PairsLitError(f"{option} cannot be null: leave it out for its default.")
        if is_dataclass(hint) and isinstance(hint, type):
            check_nulls(value, hint, option)


def with_homes(value: Any) -> Any:  # noqa: ANN401 - a configuration, or any value of one
    """Replace ``~`` in every text that is a path in the user's home, whatever option it is for."""
    match value:
        case Namespace():
            for key, each in list(value.items()):
                value[key] = each if key == "config" else with_homes(each)
        case list():
            return [with_homes(each) for each in value]
        case dict():
            return {key: with_homes(each) for key, each in value.items()}
        case str() if is_in_home(value):
            return str(user_path(value))
    return value


class PairsParser(LightningArgumentParser):
    """A parser that raises our errors."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise PairsLitError; jsonargparse would print its usage and exit."""
        below = self._subcommands_action
        parsers = [self] if below is None else below.choices.values()
        options = [option for parser in parsers for option in parser._actions]
        if not self.exit_on_error:  # the parser of a class's settings: its error is a part of the option's
            super().error(inner(message, options), ex)
        raise PairsLitError(f"{readable(message, options)} (pairs-lit COMMAND --help lists the options).") from ex

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Namespace:  # noqa: ANN401 - jsonargparse's own
        """Parse a configuration file."""
        try:
            return cast(Namespace, super().parse_path(path, *args, **kwargs))
        except UnicodeDecodeError as error:
            raise PairsLitError(f"--config {path} is not UTF-8 text ({error.reason}): save it in UTF-8.") from error

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Namespace:  # noqa: ANN401 - jsonargparse's own
        """Parse a configuration, from a file or given as text, and refuse unknown sections."""
        content = content.removeprefix("\ufeff")  # some editors put this mark before UTF-8
        name = str(kwargs.get("path") or "--config")
        try:
            found = load(content, name)
        except yaml.YAMLError as error:
            raise not_yaml(name, error) from error
        if not isinstance(found, Mapping):
            got = "nothing" if found is None else repr(found)[:60]
            raise PairsLitError(f"--config: sections such as data, model, trainer and rounds are needed, got {got}.")
        named = with_built(found)
        text = content if named == found else yaml.safe_dump(named)
        parsed: Namespace = super().parse_string(text, *args, **kwargs)
        check_empty_sections(found, [action.dest for action in self._actions])
        return parsed

    def instantiate_classes(self, cfg: Namespace, **kwargs: Any) -> Namespace:  # noqa: ANN401 - jsonargparse's own
        """Build the classes of a configuration; an error in a constructor is reported with the option's name."""
        refused: list[PairsLitError] = []
        builders = [(partial(_built, option, refused), kind, True) for kind, option in _OPTIONS.items()]
        try:
            return cast(Namespace, self.instantiate(cfg, instantiators=builders, **kwargs))
        except ValueError:
            if not refused:
                raise
            raise refused[0] from refused[0].__cause__  # jsonargparse has put it into a text of its own


_OPTIONS: dict[type, str] = {
    Augmentation: "data.augment",
    Callback: "trainer.callbacks",
    Logger: "trainer.logger",
    Profiler: "trainer.profiler",
    Strategy: "trainer.strategy",
    Accelerator: "trainer.accelerator",
    **dict.fromkeys((Precision, ClusterEnvironment, CheckpointIO, LayerSync), "trainer.plugins"),
}


def _built(
    option: str,
    refused: list[PairsLitError],
    kind: Callable[..., Any],
    /,  # an argument of the user's may have one of these names
    *args: Any,  # noqa: ANN401 - any class
    **kwargs: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    try:
        return kind(*args, **kwargs)
    except PairsLitError as error:
        refused.append(error)
        raise
    except Exception as error:  # whatever a constructor of the user's raises
        refused.append(PairsLitError(f"{option}: {kind.__name__}: {reason_of(error)} ({place_of(error)})."))
        raise refused[-1] from error
