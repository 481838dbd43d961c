"""Entry point of the command line: prints the help at once, or imports and runs a command."""

import os
import sys
import traceback
from importlib import import_module

from pairs_lit import __version__
from pairs_lit.commands import COMMANDS, LIGHTNING_COMMANDS
from pairs_lit.commands.training_help import is_help, show_help
from pairs_lit.errors import PairsLitError, Stopped, WorkerError
from pairs_lit.system.console import print_notice, use_utf8
from pairs_lit.system.imports import load_libraries
from pairs_lit.system.libraries import COMMAND_LOCK, drop_missing_backend, quiet_other_packages
from pairs_lit.system.signals import handle_signals
from pairs_lit.system.tracebacks import format_reason, locate_error
from pairs_lit.system.user_modules import enable_local_imports
from pairs_lit.text import replace_control_characters, suggest_name

HELP = f"""\
usage: pairs-lit COMMAND --config FILE [--SECTION.KEY VALUE ...]
       pairs-lit apply RUN LEFT.png RIGHT.png ... | pairs-lit demo RUN
       pairs-lit compare RUN RUN ... | pairs-lit configs | pairs-lit reproduce [REPORT ...]

Train many seeds of one network side by side to decide which of two handwritten digits is larger.

commands:
{chr(10).join(f"  {name:<12}{text}" for name, text in COMMANDS.items())}

examples:
  pairs-lit fit --config cnn_aux
  pairs-lit fit --config cnn_aux --rounds.count 20 --trainer.max_epochs 50
  pairs-lit test RUN
  pairs-lit inspect RUN
  pairs-lit compare RUN RUN --figure rounds.png
  pairs-lit export RUN --to onnx
  pairs-lit sweep --config cnn_aux --sweep sweep.yaml
  tensorboard --logdir lightning_logs

pairs-lit COMMAND --help explains a command and its options.
FILE is a path or a bundled config's name (pairs-lit configs lists them); RUN is the folder of a run.
The environment variable PAIRS_LIT_DATA (or --data.root) names the folder that holds MNIST.
Set PAIRS_LIT_TRACEBACK=1 to show the traceback of an error.
"""


TRACEBACK_VARIABLE = "PAIRS_LIT_TRACEBACK"
"""The environment variable that makes errors show their traceback."""

_COMMANDS_WITHOUT_TORCH = ("apply", "compare", "configs", "demo", "reproduce")
"""Commands that start without PyTorch. Those that load it later print their own notice."""

_RESUME_COMMANDS = {
    "fit": "pairs-lit fit RUN",
    "reproduce": "the same command",
    "sweep": "the same command",
}
"""How to resume each command that saves its progress."""


def main(args: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: The arguments, or None for those of the process.

    Returns:
        The exit code: 0 for success, 1 for an unexpected error, 2 for a user error, and 128 plus the signal's number
        if a signal ended the command.
    """
    arguments = sys.argv[1:] if args is None else args
    with COMMAND_LOCK, use_utf8():
        if not arguments or arguments[0] in ("-h", "--help"):
            print(HELP)
        elif arguments[0] == "--version":
            print(f"pairs-lit {__version__}")
        else:
            return _run_safely(arguments)
        return 0


def _run_safely(arguments: list[str]) -> int:
    """Run a command, report an error or signal in one line, and return the exit code."""
    try:
        with handle_signals():
            _run_command(arguments)
        return 0
    except PairsLitError as error:
        return _print_error(str(error))
    except BrokenPipeError:  # the reader of the output, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Stopped as stop:
        command = arguments[0]
        resume_command = (command == "fit" and stop.resume_command) or _RESUME_COMMANDS.get(command)
        hint = f" Progress was saved; resume with {resume_command}." if resume_command else ""
        print_notice(f"stopped by {stop}.{hint}")
        return stop.code
    except WorkerError as error:
        _print_error(str(error))
        return 1
    except Exception as error:
        if isinstance(error, OSError) and (error.filename, error.errno) != (None, None):
            return _print_error(f"operating system error: {error}.")
        _print_error(f"{format_reason(error)} ({locate_error(error)}; {TRACEBACK_VARIABLE}=1 shows the traceback).")
        return 1  # a bug, either in the user's code or in this package


def _print_error(message: str) -> int:
    """Print an error, with its traceback if the user asks for it, and return the exit code of a user error."""
    if os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0"):
        traceback.print_exc()
    print("pairs-lit: error: " + "\n".join(map(replace_control_characters, message.split("\n"))), file=sys.stderr)
    return 2


def _run_command(arguments: list[str]) -> None:
    """Import the module of a command and run it."""
    command = arguments[0]
    if command not in COMMANDS:
        known = f"use one of {', '.join(COMMANDS)} (see pairs-lit --help)."
        raise PairsLitError(f"unknown command {command!r}{suggest_name(command, COMMANDS) or ':'} {known}")
    if command in LIGHTNING_COMMANDS and is_help(arguments):
        show_help(command, arguments)
        return
    drop_missing_backend()
    quiet_other_packages()
    enable_local_imports()
    if command not in _COMMANDS_WITHOUT_TORCH and "lightning.pytorch" not in sys.modules:
        print_notice("loading PyTorch and Lightning …")
    is_lightning = command in LIGHTNING_COMMANDS
    with load_libraries():
        module = import_module(f"pairs_lit.commands.{'fit' if is_lightning else command}")
    module.run(*([command, arguments] if is_lightning else [arguments[1:]]))


if __name__ == "__main__":
    sys.exit(main())
