"""Outputs, losses and gradients of a stack for a few fixed pairs of images, and their comparison up to rounding."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.nn.pair_stack import PairStack
from pairs_lit.seeds import build_generator
from pairs_lit.stacking.looped import LoopedCopies
from pairs_lit.stacking.parameter_slices import find_owner, renumber_name
from pairs_lit.training.losses import LossParts

Observation = dict[str, Tensor]
"""Values of R rounds by name, each of shape (R, ...), on the CPU."""

LossFunction = Callable[[PairOutput, Tensor, Tensor], LossParts]

NUM_PAIRS = 3
"""The number of fixed pairs; every network has already been tried on this many when it was built."""

VALUE_RANGES: Mapping[str, tuple[float, float]] = {"raw": (0.0, 255.0), "unit": (0.0, 1.0), "standard": (-0.42, 2.82)}
"""The values of black and white pixels for each ``data.normalise``; for ``standard``, those of MNIST."""

_ABSOLUTE_TOLERANCE = 1e-4
"""The absolute tolerance: smaller differences of logits and probabilities never matter."""

_RELATIVE_TOLERANCE = 1e-3
"""The relative tolerance, as a share of a round's largest value."""

_GRADIENT_TOLERANCE = 0.1
"""An extra tolerance for gradients, as a share of each value.

The gradients of ReLU and max-pool are not continuous, so rounding of an input can change them a lot.
"""

_TOLERANCE_IN_EPSILONS = 16
"""The relative tolerance in units of the networks' precision; it applies if it is larger, as with bfloat16."""


@dataclass(frozen=True)
class FixedPairs:
    """A few pairs of images that look like strokes, from nearly black to nearly white, with invented labels.

    Attributes:
        size: The height and width of the images.
        normalise: How the images of the rounds are normalised, a key of :data:`VALUE_RANGES`.
        classes: K, the number of classes.
    """

    size: int
    normalise: str
    classes: int

    @cached_property
    def images(self) -> Tensor:
        """The images, (PAIRS, 2, S, S) float32, smooth functions of fixed random numbers."""
        noise = torch.rand(2 * NUM_PAIRS, 1, self.size, self.size, generator=build_generator(0, "fixed pairs"))
        smooth = F.avg_pool2d(noise, 3, 1, 1, count_include_pad=False)
        levels = torch.linspace(0.65, 0.35, 2 * NUM_PAIRS).view(-1, 1, 1, 1)
        black, white = VALUE_RANGES[self.normalise]
        return (
            ((smooth - levels) * 8).clamp(0, 1).mul(white - black).add(black).view(NUM_PAIRS, 2, self.size, self.size)
        )

    @property
    def digits(self) -> Tensor:
        """The labels of the images, (PAIRS, 2) int64."""
        return torch.arange(2 * NUM_PAIRS).view(NUM_PAIRS, 2) % self.classes

    @property
    def target(self) -> Tensor:
        """Whether the relation holds according to the invented labels, (PAIRS,) int64."""
        return torch.arange(NUM_PAIRS) % 2


def observe_stack(
    stack: PairStack, loss: LossFunction, rounds: int, pairs: FixedPairs, *, training: bool
) -> Observation:
    """Return what the rounds of a stack compute for fixed pairs, and leave the stack exactly unchanged.

    Args:
        stack: The stack.
        loss: The loss of its rounds.
        rounds: R, the number of rounds in the stack.
        pairs: The pairs.
        training: Whether to run the stack in training mode and also compute gradients.

    Returns:
        ``output``, ``digit_logits`` (if there are any), ``losses`` and, in training mode, ``gradients``: the norms of
        the gradients of each round's parameters, sorted. Empty if the stack cannot be run on these pairs, or if a
        second run gives other values.
    """
    try:
        with _preserve_state(stack, training) as probe, warnings.catch_warnings(action="ignore"), _use_full_precision():
            probe.network.train(training)
            probe.clock.epoch, probe.clock.step, probe.clock.split = 0, 0, "train" if training else "test"
            with torch.inference_mode(not training), torch.set_grad_enabled(training):
                first = _compute_observation(probe, loss, rounds, pairs, training)
                is_repeatable = not _has_looped_modules(probe) or _are_equal(
                    first, _compute_observation(probe, loss, rounds, pairs, training)
                )
                return first if is_repeatable else {}
    except Exception:  # a user's module can raise anything, for example for want of pairs
        return {}


def _has_looped_modules(stack: PairStack) -> bool:
    """Return whether a stack runs copies of the user's modules, which may hold any state or draw random numbers."""
    return any(isinstance(part, LoopedCopies) for part in stack.network.modules())


def _are_equal(first: Observation, second: Observation) -> bool:
    return all(torch.equal(first[name].nan_to_num(), second[name].nan_to_num()) for name in first)


def _compute_observation(
    stack: PairStack, loss: LossFunction, rounds: int, pairs: FixedPairs, training: bool
) -> Observation:
    """Run a stack on fixed pairs and return the values that :func:`observe_stack` documents."""
    reference = next(stack.network.parameters(), torch.empty(0))  # for its device and type
    output: PairOutput = stack(pairs.images.to(reference).repeat(rounds, 1, 1, 1, 1))
    networks = len(output.output)
    labels = (part.to(reference.device).repeat(networks, *[1] * part.dim()) for part in (pairs.digits, pairs.target))
    losses = loss(output, *labels)
    tensors = {"output": output.output, "losses": torch.stack(list(losses), 1)}
    if output.digit_logits is not None:
        tensors["digit_logits"] = output.digit_logits
    numbers = {name: value.detach().reshape(rounds, -1).float().cpu() for name, value in tensors.items()}
    return numbers | (
        {"gradients": _compute_gradient_norms(stack.network, losses.total.sum(), rounds)} if training else {}
    )


def _compute_gradient_norms(stack: nn.Module, total: Tensor, rounds: int) -> Tensor:
    """Return the sorted gradient norms of the parameters of each round, (R, parameters) float32."""
    parameters = {name: value for name, value in stack.named_parameters() if value.requires_grad}
    gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    norms: dict[str, Tensor] = {}
    for (name, value), gradient in zip(parameters.items(), gradients, strict=True):
        dense = torch.zeros_like(value) if gradient is None else gradient
        round_index = find_owner(stack, name, rounds)
        key = name if round_index is None else renumber_name(stack, name, rounds, round_index, 0)
        norm = norms.setdefault(key, torch.zeros(rounds))
        if round_index is None:
            norm.copy_(dense.detach().float().reshape(rounds, -1).norm(dim=1))
        else:
            norm[round_index] = dense.detach().float().norm()
    return torch.stack(list(norms.values()), 1).sort(1).values


@contextmanager
def _preserve_state(stack: PairStack, training: bool) -> Iterator[PairStack]:
    """Yield the stack and restore its modes, buffers and clock; yield a copy if its modules may hold more state."""
    used_stack = _copy_stack(stack, training) if _has_looped_modules(stack) else stack
    modes = [(part, part.training) for part in stack.network.modules()]
    must_restore_buffers = training and used_stack is stack
    buffers = [(buffer, buffer.clone()) for buffer in stack.network.buffers()] if must_restore_buffers else []
    clock = vars(stack.clock).copy()
    try:
        yield used_stack
    finally:
        _restore_state(modes, buffers)
        vars(stack.clock).update(clock)


def _copy_stack(stack: PairStack, training: bool) -> PairStack:
    """Return a copy of a stack, or the stack itself if it cannot be copied and is only evaluated."""
    try:
        return copy.deepcopy(stack)
    except Exception:  # a user's object can raise anything when it is copied
        if training:
            raise
        return stack


@torch.no_grad()
def _restore_state(modes: list[tuple[nn.Module, bool]], buffers: list[tuple[Tensor, Tensor]]) -> None:
    """Restore the modes of modules and the values of buffers."""
    for part, mode in modes:
        part.training = mode
    for buffer, original in buffers:
        buffer.copy_(original)


@contextmanager
def _use_full_precision() -> Iterator[None]:
    """Switch off TF32 and bfloat16 as substitutes for float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def get_precision(module: nn.Module) -> float:
    """Return the machine epsilon of the coarsest float type among a module's parameters."""
    dtypes = [value.dtype for value in module.parameters() if value.is_floating_point()]
    return max((torch.finfo(dtype).eps for dtype in dtypes), default=torch.finfo(torch.float32).eps)


@dataclass(frozen=True)
class Difference:
    """The largest difference between two observations of a round.

    Attributes:
        round: The index of the round.
        size: The largest absolute difference.
        scale: The largest absolute value in the earlier observation.
    """

    round: int
    size: float
    scale: float


def find_difference(name: str, before: Tensor, now: Tensor | None, precision: float) -> Difference | None:
    """Return the largest difference between two observations of the same rounds, or None if it is only rounding.

    Values that were not finite in the earlier observation, such as those of failed rounds, are not compared.

    Args:
        name: The name of the observed value.
        before: The earlier values, (R, ...).
        now: The present values, or None if there are none.
        precision: The coarser of the two precisions, see :func:`get_precision`.
    """
    if now is None or now.shape != before.shape:
        return Difference(0, float("inf"), float("nan"))
    if before.numel() == 0:
        return None
    is_compared = before.isfinite()
    earlier, present = (value.double().where(is_compared, 0).flatten(1) for value in (before, now))
    scale = earlier.abs().amax(1)
    gap = (earlier - present).abs().nan_to_num(torch.inf)
    allowed = max(_RELATIVE_TOLERANCE, _TOLERANCE_IN_EPSILONS * precision) * scale[:, None] + _ABSOLUTE_TOLERANCE
    if name == "gradients":
        allowed = allowed + _GRADIENT_TOLERANCE * earlier.abs()
    excess = (gap - allowed).amax(1)
    worst = int(excess.argmax())
    return Difference(worst, float(gap[worst].amax()), float(scale[worst])) if excess[worst] > 0 else None
