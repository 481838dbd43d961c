"""Behaviour of a stack: its outputs, losses and gradients for a few fixed pairs of images, compared up to rounding."""

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
from pairs_lit.seeds import generator
from pairs_lit.stacking.looped import Loop
from pairs_lit.stacking.parameter_slices import owner, renamed
from pairs_lit.training.losses import LossParts

Numbers = dict[str, Tensor]
"""By name, values of R rounds, (R, ...) on the CPU."""

LossFunction = Callable[[PairOutput, Tensor, Tensor], LossParts]

PAIRS = 3
"""The number of fixed pairs; every network is tried on as many when it is built."""

RANGES: Mapping[str, tuple[float, float]] = {"raw": (0.0, 255.0), "unit": (0.0, 1.0), "standard": (-0.42, 2.82)}
"""The values of black and white that ``data.normalise`` leads to; for ``standard``, those of MNIST."""

_FLOOR = 1e-4
"""Differences of logits and probabilities below this are of no consequence, whatever their scale."""

_RTOL = 1e-3
"""Differences that count as rounding, as a share of a round's largest value."""

_JUMPS = 0.1
"""The same of gradients, as a share of each value: those of ReLU and max-pool jump where rounding moves an input."""

_EPSILONS = 16
"""The same in units of the networks' precision, if that is more: with bfloat16, say."""


@dataclass(frozen=True)
class FixedPairs:
    """A few pairs of images that look like strokes, from nearly black to nearly white, with made-up labels.

    Attributes:
        size: The images' height and width.
        normalise: The way in which the rounds' images are prepared, a key of :data:`RANGES`.
        classes: K, how many classes there are.
    """

    size: int
    normalise: str
    classes: int

    @cached_property
    def images(self) -> Tensor:
        """The images, (PAIRS, 2, S, S) float32; they change smoothly with their random numbers."""
        noise = torch.rand(2 * PAIRS, 1, self.size, self.size, generator=generator(0, "fixed pairs"))
        smooth = F.avg_pool2d(noise, 3, 1, 1, count_include_pad=False)
        levels = torch.linspace(0.65, 0.35, 2 * PAIRS).view(-1, 1, 1, 1)
        black, white = RANGES[self.normalise]
        return ((smooth - levels) * 8).clamp(0, 1).mul(white - black).add(black).view(PAIRS, 2, self.size, self.size)

    @property
    def digits(self) -> Tensor:
        """The labels of the images, (PAIRS, 2) int64."""
        return torch.arange(2 * PAIRS).view(PAIRS, 2) % self.classes

    @property
    def target(self) -> Tensor:
        """Whether the relation is said to hold, (PAIRS,) int64."""
        return torch.arange(PAIRS) % 2


def observe(stack: PairStack, loss: LossFunction, rounds: int, pairs: FixedPairs, *, training: bool) -> Numbers:
    """Return what the rounds of a stack compute for fixed pairs; the stack stays as it is, to the last bit.

    Args:
        stack: The stack.
        loss: The loss of its rounds.
        rounds: R, how many rounds it has.
        pairs: The pairs.
        training: Whether to run it in training mode, and measure gradients, too.

    Returns:
        ``output``, ``digit_logits`` (if there are any), ``losses`` and, in training mode, ``gradients``: the norms of
        the gradients of each round's parameters, in order of size. Nothing if the stack cannot be run on these pairs.
    """
    try:
        with _undisturbed(stack, training) as own, warnings.catch_warnings(action="ignore"), _in_full_precision():
            own.network.train(training)
            own.clock.epoch, own.clock.step, own.clock.split = 0, 0, "train" if training else "test"
            with torch.inference_mode(not training), torch.set_grad_enabled(training):
                found = _numbers(own, loss, rounds, pairs, training)
                repeats = not _is_loop(own) or _same(found, _numbers(own, loss, rounds, pairs, training))
                return found if repeats else {}
    except Exception:  # whatever a user's module raises, in training on so few pairs for instance
        return {}


def _is_loop(stack: PairStack) -> bool:
    """Return whether a stack runs modules as they were written, which may keep or draw anything."""
    return any(isinstance(part, Loop) for part in stack.network.modules())


def _same(one: Numbers, other: Numbers) -> bool:
    return all(torch.equal(one[name].nan_to_num(), other[name].nan_to_num()) for name in one)


def _numbers(stack: PairStack, loss: LossFunction, rounds: int, pairs: FixedPairs, training: bool) -> Numbers:
    like = next(stack.network.parameters(), torch.empty(0))
    answer: PairOutput = stack(pairs.images.to(like).repeat(rounds, 1, 1, 1, 1))
    each = len(answer.output)
    labels = (part.to(like.device).repeat(each, *[1] * part.dim()) for part in (pairs.digits, pairs.target))
    losses = loss(answer, *labels)
    found = {"output": answer.output, "losses": torch.stack(list(losses), 1)}
    if answer.digit_logits is not None:
        found["digit_logits"] = answer.digit_logits
    numbers = {name: value.detach().reshape(rounds, -1).float().cpu() for name, value in found.items()}
    return numbers | ({"gradients": _gradients(stack.network, losses.total.sum(), rounds)} if training else {})


def _gradients(stack: nn.Module, total: Tensor, rounds: int) -> Tensor:
    """Return the norm of the gradient of each parameter of each round, in order of size, (R, parameters) float32."""
    named = {name: value for name, value in stack.named_parameters() if value.requires_grad}
    found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    norms: dict[str, Tensor] = {}
    for (name, value), gradient in zip(named.items(), found, strict=True):
        own = torch.zeros_like(value) if gradient is None else gradient
        whose = owner(stack, name, rounds)
        key = name if whose is None else renamed(stack, name, rounds, whose, 0)
        norm = norms.setdefault(key, torch.zeros(rounds))
        if whose is None:
            norm.copy_(own.detach().float().reshape(rounds, -1).norm(dim=1))
        else:
            norm[whose] = own.detach().float().norm()
    return torch.stack(list(norms.values()), 1).sort(1).values


@contextmanager
def _undisturbed(stack: PairStack, training: bool) -> Iterator[PairStack]:
    """Yield the stack, and put its modes, buffers and clock back; or a copy of it, if its parts may keep more."""
    own = _copied(stack, training) if _is_loop(stack) else stack
    modes = [(part, part.training) for part in stack.network.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in stack.network.buffers()] if training and own is stack else []
    clock = vars(stack.clock).copy()
    try:
        yield own
    finally:
        _restore(modes, buffers)
        vars(stack.clock).update(clock)


def _copied(stack: PairStack, training: bool) -> PairStack:
    """Return a copy of a stack; or the stack, if something in it cannot be copied and it is only evaluated."""
    try:
        return copy.deepcopy(stack)
    except Exception:  # whatever an object of the user's raises
        if training:
            raise
        return stack


@torch.no_grad()
def _restore(modes: list[tuple[nn.Module, bool]], buffers: list[tuple[Tensor, Tensor]]) -> None:
    for part, mode in modes:
        part.training = mode
    for buffer, before in buffers:
        buffer.copy_(before)


@contextmanager
def _in_full_precision() -> Iterator[None]:
    """Compute in float32 as such: neither TF32 nor bfloat16 in its place."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def precision_of(module: nn.Module) -> float:
    """Return the spacing of the numbers that a module computes in, near 1."""
    kinds = [value.dtype for value in module.parameters() if value.is_floating_point()]
    return max((torch.finfo(kind).eps for kind in kinds), default=torch.finfo(torch.float32).eps)


@dataclass(frozen=True)
class Difference:
    """A difference between two observations of a round.

    Attributes:
        round: The number of the round.
        size: The largest difference.
        scale: The largest value of the round before.
    """

    round: int
    size: float
    scale: float


def find_difference(name: str, before: Tensor, now: Tensor | None, precision: float) -> Difference | None:
    """Return the largest difference between two observations of the same rounds, or None if it is rounding.

    Values that were not finite before, as those of failed rounds, are not compared.

    Args:
        name: The name of what was observed.
        before: Its values, (R, ...).
        now: The values now; None if there are none.
        precision: The coarser of the two precisions, see :func:`precision_of`.
    """
    if now is None or now.shape != before.shape:
        return Difference(0, float("inf"), float("nan"))
    if before.numel() == 0:
        return None
    known = before.isfinite()
    one, other = (value.double().where(known, 0).flatten(1) for value in (before, now))
    scale = one.abs().amax(1)
    gap = (one - other).abs().nan_to_num(torch.inf)
    allowed = max(_RTOL, _EPSILONS * precision) * scale[:, None] + _FLOOR
    if name == "gradients":
        allowed = allowed + _JUMPS * one.abs()
    excess = (gap - allowed).amax(1)
    worst = int(excess.argmax())
    return Difference(worst, float(gap[worst].amax()), float(scale[worst])) if excess[worst] > 0 else None
