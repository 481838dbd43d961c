"""Composites: modules that are stacked part by part because their forward accepts any leading dimensions."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Part:
    """A part of a composite.

    Attributes:
        shape: Shape of one input of the part, without N.
        stream: Name of the stream of random numbers that the part draws from. It must never change, because dropout
            masks depend on it.
        copy: Index of the part among those with the same stream, so that their masks differ.
    """

    shape: Sequence[int]
    stream: str
    copy: int = 0


class Composite(nn.Module):
    """Base class of modules whose ``forward`` accepts inputs (..., N, *shape) with any leading dimensions.

    To stack R such modules, each part of the first is replaced by a stack of R parts. The same ``forward`` then serves
    one round, (N, *shape), and R rounds, (R, N, *shape). Child modules that are not parts, such as an activation, must
    accept any leading dimensions and be the same in all rounds. An example is
    :class:`~pairs_lit.nn.pair_network.PairNetwork`.
    """

    @abstractmethod
    def parts(self, shape: Sequence[int]) -> Mapping[str, Part]:
        """Return the parts to be stacked, by the names of the child modules.

        Args:
            shape: Shape of one input of the whole module, without N.
        """
