"""Variants side by side: the rounds of several variants as slices of the same stacks."""

from collections.abc import Sequence

from lightning.pytorch import LightningModule

from pairs_lit.training.module import PairModule
from pairs_lit.training.recipes import Variant


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
