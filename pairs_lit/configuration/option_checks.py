"""Checks of options that go beyond their types."""

import re
from collections.abc import Mapping
from functools import cache

from jsonargparse import Namespace

from pairs_lit.errors import PairsLitError
from pairs_lit.nn.architecture import PART_DEFAULTS
from pairs_lit.system.console import print_notice


def report_main_classes(options: Mapping[str, object]) -> None:
    """Print a notice for each class or function that the running script defines, since only it can load the run."""
    paths = {name: match[0] for name, value in options.items() if (match := _MAIN_CLASS_PATH.search(str(value)))}
    for name, path in paths.items():
        option = name.partition(".init_args")[0].removesuffix(".class_path")
        _print_notice_once(
            f"{option} is {path}, which this script or notebook defines, so only it can load the run again. To use "
            "pairs-lit test RUN and other commands, move it to a separate file such as my_nets.py and import it."
        )


_MAIN_CLASS_PATH = re.compile(r"\b__main__\.\w+")


_print_notice_once = cache(print_notice)  # a sweep runs many fits, each of which would print the same notice


def check_schedule(model: Namespace) -> None:
    """Raise PairsLitError if the learning-rate schedule is an empty mapping.

    jsonargparse would otherwise take the type of the option, a union, for the class.
    """
    schedule = model.lr_scheduler
    if isinstance(schedule, Namespace) and str(schedule.get("class_path")).startswith("typing."):
        raise PairsLitError(
            "model.lr_scheduler must name a class, such as torch.optim.lr_scheduler.StepLR, or be null for a constant "
            "learning rate, got an empty section."
        )


def replace_parts_by_network(model: Namespace) -> list[str]:
    """Reset the settings that a whole pair network replaces, if the config names one, and return their names."""
    if model.network is None:
        return []
    replaced = [name for name, required in PART_DEFAULTS.items() if model[name] != required]
    for name in replaced:
        model[name] = PART_DEFAULTS[name]
    return replaced


def reject_global_seed(value: object) -> bool:
    """Return False if Lightning's global seed is off; otherwise raise PairsLitError, which names ``rounds.seed``."""
    if value in (False, "false", "False"):
        return False
    raise PairsLitError(
        f"seed_everything must be left out, got {value}. All random numbers derive from the seeds of the rounds; set "
        "rounds.seed (the first seed) and rounds.count instead."
    )
