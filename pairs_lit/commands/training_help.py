"""The help of ``fit``, ``validate``, ``test`` and ``predict``: the main options first, all others by topic."""

from collections.abc import Sequence
from textwrap import TextWrapper
from typing import NamedTuple

from pairs_lit.errors import PairsLitError
from pairs_lit.system.imports import load_libraries
from pairs_lit.text import suggest_name

TOPICS = {
    "rounds": "number of rounds, seeds, threads",
    "data": "dataset, pairs, batches, augmentation",
    "model": "network, loss, optimizer, learning-rate schedule",
    "trainer": "Lightning's Trainer: epochs, workers, callbacks, loggers",
    "all": "everything",
}
"""What may follow ``--help``: the sections of a configuration, or all of them."""


class Option(NamedTuple):
    """An option on the first page of help.

    Attributes:
        name: The option, without dashes.
        value: A placeholder for its value.
        text: What it does, and its default in parentheses if that is one value.
    """

    name: str
    value: str
    text: str


_COMMON = (
    Option("trainer.devices", "N", "number of worker processes, or auto: as many as the free cores can use"),
    Option("data.root", "FOLDER", "folder with MNIST's files; null: what PAIRS_LIT_DATA names, else ./data"),
    Option("name", "NAME", "name of the run's folder in lightning_logs (default: that of the config)"),
)
_FIT = (
    Option("config", "CONFIG", "YAML file, run folder, or name of a bundled config (pairs-lit configs lists them)"),
    Option("rounds.count", "N", "number of rounds, each with its own seed (default: 10)"),
    Option("rounds.seed", "N", "seed of the first round (default: 0)"),
    Option("trainer.max_epochs", "N", "number of epochs (default: 25)"),
    Option("data.source", "SOURCE", "mnist, digits (bundled, 8 × 8 pixels), auto, or a dataset class (default: auto)"),
    Option("data.train_pairs", "N", "training pairs per round (default: 1000)"),
    Option("data.swap", "HOW", "none, relabel (adds every pair in reverse order) or flip (default: none)"),
    Option("model.backbone", "CLASS", "FC, CNN, or the path of any class or function that builds a torch module"),
    Option("model.sharing", "HOW", "weights of the two backbones: shared, separate or joint (default: shared)"),
    Option("model.loss.digits", "LOSS", "auxiliary loss on the digit classes: none, ce or mse (default: none)"),
    Option("model.loss.aux_weight", "X", "weight of the auxiliary loss (default: 1.0)"),
    Option("model.optimizer", "CLASS", "optimizer; --model.optimizer.lr X sets its learning rate"),
)
_EVALUATION = (
    Option("data.all_pairs", "SPLITS", "evaluate every ordered pair of the split's images as well, e.g. [test]"),
    Option("model.views", "VIEWS", "average predictions over shifted and warped copies of each image"),
    Option("ckpt_path", "FILE", "checkpoint to load instead of the run's last one"),
    Option("allow_changed_code", "BOOL", "evaluate although the network's code has changed (default: false)"),
)

_DESCRIPTIONS = {
    "fit": "Train one network with many seeds (rounds) side by side, evaluate every round after each epoch, and write "
    "the results, mean ± std over rounds, to a new run folder: lightning_logs/NAME/TIME.",
    "validate": "Evaluate every round of a finished run on its validation pairs, and print mean ± std over rounds.",
    "test": "Evaluate every round of a finished run on its test pairs, and print mean ± std over rounds.",
    "predict": "Write the probability that the relation holds, as every round of a finished run predicts it for the "
    "test pairs of the first seed, to predictions.csv in a new run folder.",
}

_USAGE = {
    "fit": "usage: pairs-lit fit --config CONFIG [--OPTION VALUE ...]\n"
    "       pairs-lit fit RUN                resume an interrupted run",
}

_MORE = """\
  pairs-lit {command} --model.optimizer.help torch.optim.SGD
                          arguments of a class that an option names"""

_FIT_ENDING = """
  pairs-lit fit --config cnn_aux --print_config > mine.yaml
                          the complete configuration, to edit and to pass to --config

examples:
  pairs-lit fit --config cnn_aux
  pairs-lit fit --config cnn_aux --rounds.count 20 --data.swap relabel --name swapped
  pairs-lit fit --config fc --model.loss.digits ce --model.loss.aux_weight 0.5"""


def main_options(command: str) -> Sequence[Option]:
    """Return the options on the first page of a command's help."""
    return (*_FIT, *_COMMON) if command == "fit" else (*_EVALUATION, *_COMMON)


def is_help(args: Sequence[str]) -> bool:
    """Return whether a command line asks for help."""
    return any(token.partition("=")[0] in ("-h", "--help") for token in args)


def show_help(command: str, args: Sequence[str]) -> None:
    """Print a command's first page of help, or all options of the topic that follows ``--help``.

    Raises:
        PairsLitError: There is no such topic.
    """
    topic = _get_topic(args)
    if topic is None:
        print(render_first_page(command))
        return
    with load_libraries():
        from pairs_lit.configuration.option_help import render_options  # loads PyTorch

    print(render_options(command, topic))


def _get_topic(args: Sequence[str]) -> str | None:
    place = next(place for place, token in enumerate(args) if is_help([token]))
    _, _, topic = args[place].partition("=")
    following = args[place + 1] if place + 1 < len(args) else "-"
    topic = topic or ("" if following.startswith("-") else following)
    if topic and topic not in TOPICS:
        allowed = f"use one of {', '.join(TOPICS)}."
        raise PairsLitError(f"--help {topic}: there is no such topic{suggest_name(topic, TOPICS) or ':'} {allowed}")
    return topic or None


def render_first_page(command: str) -> str:
    """Return the first page of a command's help: what it does, its main options, where the others are."""
    usage = _USAGE.get(command, f"usage: pairs-lit {command} RUN [--OPTION VALUE ...]")
    wrap = TextWrapper(width=100).fill
    options = "\n".join(_format_option(option) for option in main_options(command))
    topics = "\n".join(f"  {f'pairs-lit {command} --help {topic}':<34}{text}" for topic, text in TOPICS.items())
    ending = _MORE.format(command=command) + (_FIT_ENDING if command == "fit" else "")
    return "\n\n".join(
        (usage, wrap(_DESCRIPTIONS[command]), f"main options:\n{options}", f"more options:\n{topics}\n{ending}")
    )


def _format_option(option: Option) -> str:
    return f"  {f'--{option.name} {option.value}':<34}{option.text}"
