"""Variants side by side: the rounds of several variants as slices of the same stacks."""

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningModule

from pairs_lit.training.module import PairModule
from pairs_lit.training.recipes import Variant
from pairs_lit.training.round_runner import RoundRunner


class VariantsModule(PairModule):
    """The rounds of V variants, variant after variant; each has the same seeds.

    Args:
        variants: They differ only as the slices of a stack can: in what :attr:`PairLoss.form` leaves out, in their
            recipes, in what builds a network of the same form.
        seeds: The seeds of one variant's rounds.
        stack_size: Slices a stack; None: as many as make a stack of so many rounds.
    """

    def __init__(self, variants: Sequence[Variant], seeds: Sequence[int], stack_size: int | None) -> None:
        LightningModule.__init__(self)
        self.variant = variants[0]
        self.build([*seeds] * len(variants), variants, stack_size)


class SliceRunner(RoundRunner):
    """Runs the rounds of V variants.

    Args:
        variants: How many there are.
        count: As for :class:`RoundRunner`, of each variant, as all that follows.
        seed: The seed of the first round.
        stack_size: Slices a stack.
        threads: How many threads compute.
    """

    def __init__(
        self, variants: int, *, count: int, seed: int, stack_size: int | None = None, threads: int | None = None
    ) -> None:
        super().__init__(count=count, seed=seed, stack_size=stack_size, threads=threads)
        self.own_seeds = self.seeds
        self.seeds = self.own_seeds * variants
        self._good = torch.ones(len(self.seeds), dtype=torch.bool)

    @property
    def state_key(self) -> str:
        """The key of its state in a checkpoint: that of what runs each variant alone."""
        return RoundRunner.__qualname__
