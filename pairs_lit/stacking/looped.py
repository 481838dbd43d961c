"""Fallback for modules that cannot be stacked: run R modules in a Python loop, which is slower but equally correct."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pairs_lit.seeds import get_rng_state, preserve_rng_state, seed_generators
from pairs_lit.stacking.ops.dropout import RandomStreams

Output = Tensor | tuple[Tensor, ...]


class LoopedCopies(nn.Module):
    """R copies of a plain module, run in a loop: (R, N, ...) → (R, N, ...).

    A copy may change its input in place, because each copy gets its own memory. It may also draw from the global
    generators of torch, NumPy and Python. They are seeded for each round and batch, so that its numbers do not depend
    on the other rounds, and restored afterwards. In evaluation, the numbers depend on the split and batch, but not on
    the epoch.

    Args:
        copies: The R plain modules.
        streams: Source of their random numbers.
        reason: Why the module cannot be stacked, as a clause without its subject.

    Attributes:
        reason: As in the arguments.
        is_random_in_evaluation: Whether the first evaluation batch drew random numbers, or None before that batch.
    """

    def __init__(self, copies: Sequence[nn.Module], streams: RandomStreams, reason: str) -> None:
        super().__init__()
        self.reason = reason
        self.copies = nn.ModuleList(copies)
        self._streams = streams
        self.is_random_in_evaluation: bool | None = None

    def forward(self, x: Tensor) -> Output:
        """Apply each copy to the inputs of its round."""
        clock = self._streams.clock
        if self.training:
            seeds = self._streams.derive_seeds(clock.epoch, clock.step)
        else:
            seeds = self._streams.get_child(f"evaluation.{clock.split}").derive_seeds(clock.step)
        with preserve_rng_state(x.device):
            calls = zip(self.copies, x, seeds, strict=True)
            return join_outputs([self._call_copy(copy, inputs, seed) for copy, inputs, seed in calls], torch.stack)

    def _call_copy(self, copy: nn.Module, inputs: Tensor, seed: int) -> Output:
        """Apply one copy after seeding the global generators."""
        seed_generators(seed, inputs.device)
        is_first_evaluation = not self.training and self.is_random_in_evaluation is None
        state_before = get_rng_state(inputs.device) if is_first_evaluation else []
        output: Output = copy(inputs.clone())
        if is_first_evaluation:
            self.is_random_in_evaluation = get_rng_state(inputs.device) != state_before
        return output


def is_random_in_evaluation(stack: nn.Module) -> bool:
    """Return whether any module of a stack drew random numbers in evaluation."""
    return any(isinstance(part, LoopedCopies) and bool(part.is_random_in_evaluation) for part in stack.modules())


class LoopedRounds(nn.Module):
    """R stacks of one round each, run in a loop: (R, N, ...) → (R, N, ...), for rounds whose networks differ.

    The results of a round do not depend on the networks of the other rounds.

    Args:
        rounds: The R modules, (1, N, ...) → (1, N, ...) each.
    """

    def __init__(self, rounds: Sequence[nn.Module]) -> None:
        super().__init__()
        self.rounds = nn.ModuleList(rounds)

    def forward(self, x: Tensor) -> Output:
        """Apply each module to the inputs of its round."""
        calls = zip(self.rounds, torch.split(x, 1), strict=True)
        return join_outputs([module(inputs) for module, inputs in calls], torch.cat)


def join_outputs(outputs: Sequence[Output], join: Callable[[list[Tensor]], Tensor]) -> Output:
    """Join the outputs of all rounds with ``join``; tuples are joined part by part."""
    if isinstance(outputs[0], Tensor):
        return join([output for output in outputs if isinstance(output, Tensor)])
    return tuple(join(list(parts)) for parts in zip(*outputs, strict=True))
