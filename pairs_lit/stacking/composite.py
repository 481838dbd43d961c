"""Composites: modules that stack part by part, because their own forward takes any leading dimensions."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Part:
    """A part of a composite.

    Attributes:
        shape: The shape of one of its inputs, without N.
        stream: The name under which its random numbers are drawn; a fixed text, for masks depend on its letters.
        copy: The number of the part among those of one stream, so that their masks differ.
    """

    shape: Sequence[int]
    stream: str
    copy: int = 0


class Composite(nn.Module):
    """A module whose ``forward`` maps (..., N, *shape) for any leading dimensions if its parts do.

    A stack of R such modules is the first one with a stack of R in place of each part, so one ``forward`` serves one
    round, (N, *shape), and R rounds, (R, N, *shape). :class:`~pairs_lit.nn.pair_network.PairNetwork` is one. Children
    that are no parts, such as an activation, must take any leading dimensions and be the same in all rounds.
    """

    @abstractmethod
    def parts(self, shape: Sequence[int]) -> Mapping[str, Part]:
        """Return the parts that are stacked by themselves, by the names of the children.

        Args:
            shape: The shape of one input of the whole module, without N.
        """
