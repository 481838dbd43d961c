"""Probes: a network is tried on a few pairs before anything is trained, so that errors come early and in one line."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pairs_lit.errors import PairsLitError
from pairs_lit.nn.architecture import Architecture
from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.nn.pair_stack import PairStack
from pairs_lit.runs.metrics import PER_EPOCH
from pairs_lit.seeds import generator
from pairs_lit.stacking.looped import draws_in_evaluation
from pairs_lit.system.console import notice
from pairs_lit.system.tracebacks import reason_of
from pairs_lit.training.losses import PairLoss

_PAIRS = 3


@dataclass(frozen=True)
class Findings:
    """What a probe found out about a network.

    Attributes:
        measured: The names of the metrics that it has.
        draws: Whether it draws random numbers in evaluation.
        repeats: Whether it gives the same outputs when it is evaluated again.
        follows_from_digits: Whether its output follows from digit probabilities alone.
    """

    measured: tuple[str, ...]
    draws: bool
    repeats: bool
    follows_from_digits: bool


class Probe:
    """Tries the network of one round; what is tried leaves no trace in the networks that are trained.

    Args:
        architecture: The network.
        seed: The seed of the round.
        loss: Its loss.
    """

    def __init__(self, architecture: Architecture, seed: int, loss: PairLoss) -> None:
        self._architecture, self._seed, self._loss = replace(architecture, members=1), seed, loss

    def check(self) -> Findings:
        """Return what the network is like, with a notice for what is unusual.

        Raises:
            PairsLitError: Its parts or its loss do not fit together.
        """
        stack = self._build(training=False)
        with torch.enable_grad():
            first, second = (stack(self._images(_PAIRS)) for _ in range(2))
        if not first.has_shape_of(1, _PAIRS):
            raise PairsLitError(
                f"a head must give 1 or 2 logits a pair; this one gave {tuple(first.output.shape[1:])} for {_PAIRS} "
                "pairs of images."
            )
        self._loss.check(first)
        draws = draws_in_evaluation(stack.network)
        repeats = torch.equal(first.output.nan_to_num(), second.output.nan_to_num())
        _report_randomness(draws=draws, repeats=repeats)
        return Findings(self._measured(first), draws, repeats, first.digit_probabilities is not None)

    def find_batch_error(self, pairs: int, *, training: bool) -> str | None:
        """Return why the network cannot be trained or evaluated on a batch of this many pairs, or None if it can."""
        digits = torch.zeros(1, pairs, 2, dtype=torch.int64)
        try:
            with torch.inference_mode(not training):
                output = self._build(training=training)(self._images(pairs))
                if not output.has_shape_of(1, pairs):
                    return f"it gives an output of shape {tuple(output.output.shape[1:])}"
                total = self._loss(output, digits, digits[..., 0]).total.sum()
                if training:
                    torch.autograd.backward(total)
        except Exception as error:  # whatever a module of the user's raises
            return reason_of(error)
        return None

    def _build(self, *, training: bool) -> PairStack:
        stack = PairStack.build(self._architecture, [self._seed])
        stack.network.train(training)
        return stack

    def _images(self, pairs: int) -> Tensor:
        """Return images (1, pairs, 2, H, W)."""
        return torch.rand(1, pairs, *self._architecture.pair_shape, generator=generator(0, "trial"))

    def _measured(self, output: PairOutput) -> tuple[str, ...]:
        absent = {
            "target_loss": self._loss.target == "none",
            "digit_loss": self._loss.digits == "none",
            "digit_accuracy": output.digit_logits is None,
        }
        return tuple(name for name in PER_EPOCH if not absent.get(name, False))


def _report_randomness(*, draws: bool, repeats: bool) -> None:
    if draws:
        notice(
            "the network draws random numbers in evaluation, too (dropout without training=self.training?): its "
            "figures are those of one draw, which follows from each round's seed."
        )
    elif not repeats:
        notice(
            "the network gives another answer when it is evaluated again (a random generator or a count of its "
            "own?): test, and going on from a checkpoint, will not repeat this fit's figures."
        )
