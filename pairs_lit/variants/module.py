"""The module that trains several variants side by side, their rounds as slices of the same stacks."""

from collections.abc import Sequence

from lightning.pytorch import LightningModule

from pairs_lit.training.module import PairModule
from pairs_lit.training.recipes import Variant


class VariantsModule(PairModule):
    """The rounds of V variants, variant after variant; all variants have the same seeds.

    Args:
        variants: The variants. They may differ only as slices of a stack can: in loss settings that are not part of
            :attr:`PairLoss.form`, in their recipes, and in settings that do not change the structure of the network.
        seeds: The seeds of the rounds of each variant.
        stack_size: The number of slices per stack, or None for a stack size that depends on the network and the number
            of rounds.
    """

    def __init__(self, variants: Sequence[Variant], seeds: Sequence[int], stack_size: int | None) -> None:
        LightningModule.__init__(self)
        self.variant = variants[0]
        self.build([*seeds] * len(variants), variants, stack_size)
