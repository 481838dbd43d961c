"""A network as a program: what its ``forward`` does, recorded by :mod:`torch.export` for any number of pairs."""

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
from pairs_lit.system.tracebacks import own_place_of
from pairs_lit.text import counted

PAIRS = "pairs"
"""The input's name."""

_TRIED = (3, 1, 4, 40)
"""On how many pairs a network is recorded, and then compared with what was recorded."""


_CLOSE = 1e-4
"""By how much another runtime's rounding may change an answer, as a share of the largest; it is 1e-6 as a rule."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence exporters, which tell a user of their own affairs in hundreds of lines."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def trials(prepare: Preprocessing) -> list[Tensor]:
    """Return prepared pairs, (N, 2, H, W) for several N, on which what is exported is tried."""
    generator, size = torch.Generator().manual_seed(0), prepare.image_size
    return [prepare(torch.randint(256, (pairs, 2, size, size), generator=generator)) for pairs in _TRIED]


def recorded(network: RoundNetwork, prepare: Preprocessing) -> ExportedProgram:
    """Record a network, and try whether what was recorded answers as it does.

    Args:
        network: In evaluation mode.
        prepare: How its images are prepared.

    Raises:
        PairsLitError: It computes by what cannot be recorded.
    """
    tried = trials(prepare)
    with quiet(), torch.no_grad():
        program = _program(network, tried[0])
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names folders of this machine
    check(network, program.module(), tried)
    return program


def _program(network: RoundNetwork, example: Tensor) -> ExportedProgram:
    failures = []
    for strict in (False, True):  # the second knows len() of a tensor; the first, more of Python
        try:
            return torch.export.export(network, (example,), dynamic_shapes={PAIRS: {0: Dim("N")}}, strict=strict)
        except Exception as error:  # a recorder's errors have no end, and what a module of the user's raises neither
            failures.append(error)
    failed = next((each for each in failures if own_place_of(each)), failures[-1])
    place = own_place_of(failed)
    raise PairsLitError(
        f"the network cannot be recorded ({_first_line(failed)}{f'; {place}' if place else ''}): it computes by "
        "values, or by what torch.export does not know. --to state_dict always works: it loads into the class itself."
    ) from failed


def _first_line(error: Exception) -> str:
    """Return kind and first line of an error: recorders add pages."""
    text = str(error).strip().split("\n")[0].rstrip(". ")
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def check(network: RoundNetwork, exported: Callable[[Tensor], object], trials: Sequence[Tensor]) -> None:
    """Refuse what answers otherwise than the network.

    Args:
        network: In evaluation mode.
        exported: What came of it.
        trials: Prepared pairs, (N, 2, H, W) each.

    Raises:
        PairsLitError: For one of the trials the answers differ.
    """
    for pairs in trials:
        try:
            with torch.no_grad():
                is_like, reason = _is_close(network(pairs), exported(pairs)), "another answer"
        except Exception as error:  # whatever the exported program's runtime raises
            is_like, reason = False, _first_line(error)
        if not is_like:
            raise PairsLitError(
                f"what was exported gives {reason} for {counted(len(pairs), 'pair')}: the network draws random "
                "numbers, or computes by what no export holds. --to state_dict always works: it loads into the class "
                "itself."
            )


def _is_close(said: Output, exported: object) -> bool:
    ours, theirs = (each if isinstance(each, tuple | list) else (each,) for each in (said, exported))
    return len(ours) == len(theirs) and all(
        one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=_CLOSE * _scale(one), equal_nan=True)
        for one, other in zip(ours, theirs, strict=True)
    )


def _scale(values: Tensor) -> float:
    """Return the largest of these and 1: a logit of -60 is rounded as one of 60 is."""
    return max(1.0, float(values.nan_to_num(posinf=0, neginf=0).abs().max()))
