"""Trial runs of a network on a few random pairs, which find errors before anything is trained."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pairs_lit.errors import PairsLitError
from pairs_lit.nn.architecture import Architecture
from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.nn.pair_stack import PairStack
from pairs_lit.runs.metrics import EPOCH_METRIC_NAMES
from pairs_lit.seeds import build_generator
from pairs_lit.stacking.looped import is_random_in_evaluation
from pairs_lit.system.console import print_notice
from pairs_lit.system.tracebacks import format_reason
from pairs_lit.training.losses import PairLoss

_NUM_PAIRS = 3


@dataclass(frozen=True)
class ProbeResult:
    """The results of a probe of a network.

    Attributes:
        metrics: The names of the metrics that exist for the network.
        is_random_in_evaluation: Whether the network draws random numbers in evaluation mode.
        is_repeatable: Whether the network gives the same outputs when it is evaluated again.
        follows_from_digits: Whether the network's output follows from digit probabilities alone.
    """

    metrics: tuple[str, ...]
    is_random_in_evaluation: bool
    is_repeatable: bool
    follows_from_digits: bool


class Probe:
    """Tries a new copy of the network of one round, so that the networks that are trained stay unaffected.

    Args:
        architecture: The network's architecture.
        seed: The seed of the round.
        loss: The loss of the round.
    """

    def __init__(self, architecture: Architecture, seed: int, loss: PairLoss) -> None:
        self._architecture, self._seed, self._loss = replace(architecture, members=1), seed, loss

    def run(self) -> ProbeResult:
        """Try the network on a few pairs, and print a notice if it is not deterministic in evaluation mode.

        Raises:
            PairsLitError: The parts of the network, or the network and its loss, do not fit together.
        """
        stack = self._build(training=False)
        with torch.enable_grad():
            first, second = (stack(self._build_images(_NUM_PAIRS)) for _ in range(2))
        if not first.has_shape(1, _NUM_PAIRS):
            raise PairsLitError(
                f"a head must return 1 or 2 logits per pair, got shape {tuple(first.output.shape[1:])} for "
                f"{_NUM_PAIRS} "
                "pairs of images."
            )
        self._loss.check(first)
        draws = is_random_in_evaluation(stack.network)
        repeats = torch.equal(first.output.nan_to_num(), second.output.nan_to_num())
        _report_randomness(draws=draws, repeats=repeats)
        return ProbeResult(self._list_metrics(first), draws, repeats, first.digit_probabilities is not None)

    def find_batch_error(self, pairs: int, *, training: bool) -> str | None:
        """Return the error of training or evaluating the network on a batch of this many pairs, or None."""
        digits = torch.zeros(1, pairs, 2, dtype=torch.int64)
        try:
            with torch.inference_mode(not training):
                output = self._build(training=training)(self._build_images(pairs))
                if not output.has_shape(1, pairs):
                    return f"it gives an output of shape {tuple(output.output.shape[1:])}"
                total = self._loss(output, digits, digits[..., 0]).total.sum()
                if training:
                    torch.autograd.backward(total)
        except Exception as error:  # a user's module can raise anything
            return format_reason(error)
        return None

    def _build(self, *, training: bool) -> PairStack:
        """Build a stack of one round."""
        stack = PairStack.build(self._architecture, [self._seed])
        stack.network.train(training)
        return stack

    def _build_images(self, pairs: int) -> Tensor:
        """Return images (1, pairs, 2, H, W)."""
        return torch.rand(1, pairs, *self._architecture.pair_shape, generator=build_generator(0, "trial"))

    def _list_metrics(self, output: PairOutput) -> tuple[str, ...]:
        """Return the names of the metrics that exist for a network with this output."""
        absent = {
            "target_loss": self._loss.target == "none",
            "digit_loss": self._loss.digits == "none",
            "digit_accuracy": output.digit_logits is None,
        }
        return tuple(name for name in EPOCH_METRIC_NAMES if not absent.get(name, False))


def _report_randomness(*, draws: bool, repeats: bool) -> None:
    """Print a notice if the network is not deterministic in evaluation mode."""
    if draws:
        print_notice(
            "the network draws random numbers in evaluation mode too (dropout without training=self.training?). Its "
            "metrics are those of one draw, which depends on each round's seed."
        )
    elif not repeats:
        print_notice(
            "the network is not deterministic in evaluation mode (does it hold a random generator or a counter?). "
            "Testing or resuming its checkpoint will not reproduce the metrics of this fit."
        )
