"""R plain modules in a loop: the way of those that no stacked layers replace, slower but just as correct."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pairs_lit.seeds import generators_kept, generators_state, seed_generators
from pairs_lit.stacking.ops.dropout import Streams

Output = Tensor | tuple[Tensor, ...]


class Loop(nn.Module):
    """R copies of a plain module in a loop: (R, N, ...) → (R, N, ...), for modules that no stacked layer replaces.

    A copy may change its input in place: each gets its own memory. It may also draw from the global generators of
    torch, NumPy and Python: they are seeded for each round and batch, so that it draws the same numbers whatever runs
    beside it, and restored afterwards. In evaluation the numbers depend on split and batch, not on the epoch.

    Args:
        copies: The R plain modules.
        streams: Where their random numbers come from.
        reason: Why nothing replaces them.

    Attributes:
        reason: The same.
        draws_in_evaluation: Whether the first batch of an evaluation drew random numbers; None before there was one.
    """

    def __init__(self, copies: Sequence[nn.Module], streams: Streams, reason: str) -> None:
        super().__init__()
        self.reason = reason
        self.copies = nn.ModuleList(copies)
        self._streams = streams
        self.draws_in_evaluation: bool | None = None

    def forward(self, x: Tensor) -> Output:
        """Apply each copy to its own round's images."""
        clock = self._streams.clock
        if self.training:
            seeds = self._streams.derived(clock.epoch, clock.step)
        else:
            seeds = self._streams.child(f"evaluation.{clock.split}").derived(clock.step)
        with generators_kept(x.device):
            return joined([self._called(*each) for each in zip(self.copies, x, seeds, strict=True)], torch.stack)

    def _called(self, copy: nn.Module, images: Tensor, seed: int) -> Output:
        seed_generators(seed, images.device)
        watched = not self.training and self.draws_in_evaluation is None
        before = generators_state(images.device) if watched else []
        output: Output = copy(images.clone())
        if watched:
            self.draws_in_evaluation = generators_state(images.device) != before
        return output


def draws_in_evaluation(stack: nn.Module) -> bool:
    """Return whether a module of a stack drew random numbers when it was evaluated."""
    return any(isinstance(part, Loop) and bool(part.draws_in_evaluation) for part in stack.modules())


class Apart(nn.Module):
    """R modules in a loop, one for each round: (R, N, ...) → (R, N, ...), for rounds whose networks differ.

    A round computes the same whether or not its neighbours have the same network.

    Args:
        rounds: The R modules, (1, N, ...) → (1, N, ...) each.
    """

    def __init__(self, rounds: Sequence[nn.Module]) -> None:
        super().__init__()
        self.rounds = nn.ModuleList(rounds)

    def forward(self, x: Tensor) -> Output:
        """Apply each module to its own round's images."""
        return joined([module(part) for module, part in zip(self.rounds, torch.split(x, 1), strict=True)], torch.cat)


def joined(outputs: Sequence[Output], join: Callable[[list[Tensor]], Tensor]) -> Output:
    """Join the outputs of all rounds, a tuple part by part."""
    if isinstance(outputs[0], Tensor):
        return join([output for output in outputs if isinstance(output, Tensor)])
    return tuple(join(list(parts)) for parts in zip(*outputs, strict=True))
