"""Export of a network with :mod:`torch.export`, for any number of pairs, and the check of exported networks."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from pairs_lit.errors import PairsLitError
from pairs_lit.inference.preprocessing import Preprocessing
from pairs_lit.nn.pair_output import Output
from pairs_lit.nn.round_network import RoundNetwork
from pairs_lit.system.tracebacks import locate_user_error
from pairs_lit.text import format_count

INPUT_NAME = "pairs"
"""The name of the input."""

_TRIAL_SIZES = (3, 1, 4, 40)
"""Numbers of pairs: a network is traced with the first, and the exported network is checked with all of them."""

_TOLERANCE = 1e-4
"""The largest allowed difference between runtimes, relative to the largest output; it is usually about 1e-6."""


@contextmanager
def silence_exporters() -> Iterator[None]:
    """Silence exporters, which print hundreds of lines about their internals."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def build_trial_inputs(prepare: Preprocessing) -> list[Tensor]:
    """Return preprocessed random pairs, (N, 2, H, W) for several N, to check exported networks with."""
    generator, size = torch.Generator().manual_seed(0), prepare.image_size
    return [prepare(torch.randint(256, (pairs, 2, size, size), generator=generator)) for pairs in _TRIAL_SIZES]


def export_program(network: RoundNetwork, prepare: Preprocessing) -> ExportedProgram:
    """Export a network with ``torch.export``, and check that the program gives the same outputs.

    Args:
        network: The network, in evaluation mode.
        prepare: How its images are preprocessed.

    Raises:
        PairsLitError: ``torch.export`` cannot trace it, or the outputs differ.
    """
    inputs = build_trial_inputs(prepare)
    with silence_exporters(), torch.no_grad():
        program = _run_torch_export(network, inputs[0])
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it contains paths of this machine
    check_predictions(network, program.module(), inputs)
    return program


def _run_torch_export(network: RoundNetwork, example: Tensor) -> ExportedProgram:
    failures = []
    for strict in (False, True):  # only strict mode supports len() of a tensor; the other supports more of Python
        try:
            return torch.export.export(network, (example,), dynamic_shapes={INPUT_NAME: {0: Dim("N")}}, strict=strict)
        except Exception as error:  # torch.export and user modules raise errors of any class
            failures.append(error)
    failure = next((error for error in failures if locate_user_error(error)), failures[-1])
    place = locate_user_error(failure)
    raise PairsLitError(
        f"torch.export cannot trace the network ({_format_first_line(failure)}{f'; {place}' if place else ''}): "
        "its forward "
        "depends on values of tensors, or uses unsupported operations. Use --to state_dict, which always works: its "
        "weights load into the network's class."
    ) from failure


def _format_first_line(error: Exception) -> str:
    """Return the class and the first line of an error, since exporters add pages of text."""
    text = str(error).strip().split("\n")[0].rstrip(". ")
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def check_predictions(network: RoundNetwork, exported: Callable[[Tensor], object], trials: Sequence[Tensor]) -> None:
    """Raise PairsLitError if the outputs of the exported network differ from the network's.

    Args:
        network: The network, in evaluation mode.
        exported: The exported network.
        trials: Batches of preprocessed pairs, (N, 2, H, W) each.
    """
    for pairs in trials:
        try:
            with torch.no_grad():
                is_close, reason = _is_close(network(pairs), exported(pairs)), "other outputs"
        except Exception as error:  # whatever the exported program's runtime raises
            is_close, reason = False, _format_first_line(error)
        if not is_close:
            raise PairsLitError(
                f"the exported network gives {reason} for {format_count(len(pairs), 'pair')}: the network draws random "
                "numbers, or uses operations that cannot be exported. Use --to state_dict, which always works: its "
                "weights load into the network's class."
            )


def _is_close(output: Output, exported: object) -> bool:
    expected, actual = (value if isinstance(value, tuple | list) else (value,) for value in (output, exported))
    return len(expected) == len(actual) and all(
        first.shape == second.shape
        and torch.allclose(first, second, rtol=0, atol=_TOLERANCE * _compute_scale(first), equal_nan=True)
        for first, second in zip(expected, actual, strict=True)
    )


def _compute_scale(values: Tensor) -> float:
    """Return the largest absolute value, but at least 1, since rounding errors grow with the values."""
    return max(1.0, float(values.nan_to_num(posinf=0, neginf=0).abs().max()))
