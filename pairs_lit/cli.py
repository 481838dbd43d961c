"""The command line's entry: help at once, then dispatch; imports nothing heavy."""

import os
import sys
import traceback
from importlib import import_module

from pairs_lit import __version__
from pairs_lit.commands import COMMANDS, OF_LIGHTNING
from pairs_lit.commands.training_help import is_help, show_help
from pairs_lit.errors import PairsLitError, Stopped, WorkerError
from pairs_lit.system.console import any_encoding, notice
from pairs_lit.system.libraries import ONE_AT_A_TIME, drop_missing_backend, quiet_other_packages
from pairs_lit.system.signals import stoppable
from pairs_lit.system.tracebacks import place_of, reason_of
from pairs_lit.system.user_modules import import_from_here
from pairs_lit.text import meant, printable

HELP = f"""\
usage: pairs-lit COMMAND --config FILE [--SECTION.KEY VALUE ...]
       pairs-lit apply RUN LEFT.png RIGHT.png ... | pairs-lit demo RUN
       pairs-lit compare RUN RUN ... | pairs-lit configs | pairs-lit reproduce [REPORT ...]

Which of two handwritten digits is larger? Trains many seeds of one network side by side.

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

pairs-lit COMMAND --help lists all options of a command; FILE is a file of yours, or the name of a config of ours.
MNIST is looked for in the folder that PAIRS_LIT_DATA (or --data.root) names.
PAIRS_LIT_TRACEBACK=1 shows the traceback of an error.
"""


TRACEBACK = "PAIRS_LIT_TRACEBACK"
"""The environment variable that asks for the traceback of an error."""

_LIGHT = ("apply", "compare", "configs", "demo", "reproduce")
"""The commands that begin without PyTorch; those that load it later say so themselves."""

_RESUMING = {
    "fit": "pairs-lit fit RUN",
    "reproduce": "the same call",
    "sweep": "the same call",
}


def main(args: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: The arguments; None: those of the process.

    Returns:
        The exit code: 0; 1 for an error of other code; 2 for a user's mistake; 128 + the number of a signal that
        ended the run.
    """
    given = sys.argv[1:] if args is None else args
    with ONE_AT_A_TIME, any_encoding():
        if not given or given[0] in ("-h", "--help"):
            print(HELP)
        elif given[0] == "--version":
            print(f"pairs-lit {__version__}")
        else:
            return _guarded(given)
        return 0


def _guarded(given: list[str]) -> int:
    """Run a command; whatever ends it early is reported in one line."""
    try:
        with stoppable():
            _dispatch(given)
        return 0
    except PairsLitError as error:
        return _refused(str(error))
    except BrokenPipeError:  # the reader of the output is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Stopped as stop:
        resuming = (given[0] == "fit" and stop.going_on) or _RESUMING.get(given[0])
        notice(f"stopped by {stop}" + (f"; what was saved is kept, and {resuming} goes on." if resuming else "."))
        return stop.code
    except WorkerError as error:
        _refused(str(error))
        return 1
    except Exception as error:
        if isinstance(error, OSError) and (error.filename, error.errno) != (None, None):
            return _refused(f"the system refused: {error}.")
        _refused(f"{reason_of(error)} ({place_of(error)}; {TRACEBACK}=1 shows the traceback).")
        return 1  # an error of the user's own code, or of ours


def _refused(message: str) -> int:
    if os.environ.get(TRACEBACK, "0") not in ("", "0"):
        traceback.print_exc()
    print("pairs-lit: error: " + "\n".join(map(printable, message.split("\n"))), file=sys.stderr)
    return 2


def _dispatch(given: list[str]) -> None:
    command = given[0]
    if command not in COMMANDS:
        known = f"use one of {', '.join(COMMANDS)} (see pairs-lit --help)."
        raise PairsLitError(f"unknown command {command!r}{meant(command, COMMANDS) or ':'} {known}")
    if command in OF_LIGHTNING and is_help(given):
        show_help(command, given)
        return
    drop_missing_backend()
    quiet_other_packages()
    import_from_here()
    if command not in _LIGHT and "lightning.pytorch" not in sys.modules:
        notice("loading PyTorch and Lightning …")
    if command not in OF_LIGHTNING:
        import_module(f"pairs_lit.commands.{command}").run(given[1:])
        return
    from pairs_lit.commands.fit import run

    run(command, given)


if __name__ == "__main__":
    sys.exit(main())
