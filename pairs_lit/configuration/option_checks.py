"""Checks of options that the parser cannot make."""

import re
from collections.abc import Mapping
from functools import cache

from jsonargparse import Namespace

from pairs_lit.errors import PairsLitError
from pairs_lit.nn.architecture import INSTEAD_OF_NETWORK
from pairs_lit.system.console import notice


def report_main_classes(options: Mapping[str, object]) -> None:
    """Tell that a run can be loaded by this script alone, where its classes or functions are defined in it."""
    named = {name: found[0] for name, value in options.items() if (found := _OF_MAIN.search(str(value)))}
    for name, path in named.items():
        option = name.partition(".init_args")[0].removesuffix(".class_path")
        _tell_once(
            f"{option} is {path}, which this script or notebook defines itself, so only it can load the run again: "
            "put it in a file of its own, such as my_nets.py, and import it from there, to use pairs-lit test RUN and "
            "the other commands."
        )


_OF_MAIN = re.compile(r"\b__main__\.\w+")


_tell_once = cache(notice)  # a sweep consists of many fits


def check_schedule(model: Namespace) -> None:
    """Refuse an empty schedule: jsonargparse would take its type, a union, for a class."""
    named = model.lr_scheduler
    if isinstance(named, Namespace) and str(named.get("class_path")).startswith("typing."):
        raise PairsLitError(
            "model.lr_scheduler names no class: name one, such as torch.optim.lr_scheduler.StepLR, or null for none."
        )


def replace_parts_by_network(model: Namespace) -> list[str]:
    """Remove the parts that a config names if it names a whole pair network, too; return their names."""
    if model.network is None:
        return []
    replaced = [name for name, usual in INSTEAD_OF_NETWORK.items() if model[name] != usual]
    for name in replaced:
        model[name] = INSTEAD_OF_NETWORK[name]
    return replaced


def reject_global_seed(value: object) -> bool:
    """Refuse Lightning's global seed, and say what stands in its place."""
    if value in (False, "false", "False"):
        return False
    raise PairsLitError(
        f"seed_everything is {value}: every random number follows from the seeds of the rounds; set rounds.seed (the "
        "first) and rounds.count."
    )
