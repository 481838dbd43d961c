"""Stacks of pair networks: R rounds, or their M members each, as one network that is trained side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Self, cast

from torch import Tensor, nn

from pairs_lit.nn.architecture import Architecture, check_widths
from pairs_lit.nn.pair_network import PairNetwork
from pairs_lit.nn.pair_output import Output, PairOutput, interpret
from pairs_lit.relation import Relation
from pairs_lit.stacking.ops.dropout import Clock, Streams
from pairs_lit.stacking.stack import stack_copies


@dataclass(frozen=True)
class PairStack:
    """The pair networks of R rounds side by side; with M members a round, R·M, each of which predicts by itself.

    Attributes:
        network: The stacked network, (R·M, N, 2, H, W) → (R·M, N, ...); member m of round r is at r·M + m.
        clock: Set it before each batch: dropout masks derive from it.
        members: M.
        width: The width of the embeddings, or of the output of whole networks.
        relation: What digit probabilities are compared by.
        description: The plain network of one round in words, a line per layer or setting.
        kinds: The classes of the modules that the plain network of one round consists of.
    """

    network: PairNetwork
    clock: Clock
    members: int
    width: int
    relation: Relation
    description: list[str]
    kinds: list[type[nn.Module]]

    @classmethod
    def build(cls, architecture: Architecture, seeds: Sequence[int], builders: Sequence[Architecture] = ()) -> Self:
        """Build the networks of R rounds and stack them.

        Args:
            architecture: The plain network of one round, or of one of its members.
            seeds: The seeds of the R rounds; the first weights of round r are those of plain torch after
                ``torch.manual_seed(seeds[r])``. Further members have the seeds that :meth:`Architecture.member_seeds`
                returns.
            builders: One architecture per round if rounds differ in settings of their parts, such as a dropout
                probability; empty if all are built by ``architecture``.

        Raises:
            PairsLitError: Networks cannot be built, share parameters or have embeddings of several widths.
        """
        each = builders or [architecture] * len(seeds)
        own = [(builder, one) for builder, seed in zip(each, seeds, strict=True) for one in builder.member_seeds(seed)]
        networks = [builder.build(seed) for builder, seed in own]
        width = check_widths({network.width for network in networks})
        description = architecture.description(networks[0])
        parts = [networks[0].get_submodule(name) for name in networks[0].parts(architecture.pair_shape)]
        kinds = [type(module) for part in parts for module in part.modules()]
        clock = Clock()
        streams = Streams(tuple(seed for _, seed in own), (0,) * len(own), clock)
        stacked = stack_copies(networks, streams, architecture.pair_shape)
        return cls(
            cast(PairNetwork, stacked),
            clock,
            architecture.members,
            width,
            architecture.relation,
            description,
            list(dict.fromkeys(kinds)),
        )

    def __call__(self, images: Tensor) -> PairOutput:
        """Compare the pairs of R rounds: images (R, B, 2, H, W) → R outputs, or R·M, round after round."""
        repeated = images.repeat_interleave(self.members, 0) if self.members > 1 else images
        output: Output = self.network(repeated)
        return interpret(output, self.relation, is_digit_head=self.network.is_digit_head)


_ENOUGH_CONVOLUTIONAL = 10  # rounds in a stack; more make a round hardly cheaper
_ENOUGH_DENSE = 20
_MOST_STACKS = 128  # many thousand rounds would otherwise take long to build
_LARGEST_WIDTH = 2560  # channels of all rounds of a stack: a step's memory grows with them


def default_stack_size(architecture: Architecture, seeds: Sequence[int]) -> int:
    """Return how many rounds make a stack by default: a fixed function of the network and the number of rounds.

    Small stacks stay in the processor's cache and keep many cores busy; 4 rounds or more make two stacks at least. A
    step's memory grows with rounds × channels, so wide convolutions get smaller stacks. Nothing is timed, and nothing
    depends on the machine: the last float bits depend on the size. A round of M members counts as M.
    """
    layers = [layer for part in architecture.build(seeds[0]).backbones for layer in part.modules()]
    widths = [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)]
    rounds, members, enough = len(seeds), architecture.members, _ENOUGH_CONVOLUTIONAL if widths else _ENOUGH_DENSE
    stacks = min(max(ceil(rounds * members / enough), 2 if rounds >= 4 else 1), _MOST_STACKS)
    return min(ceil(rounds / stacks), max(1, _LARGEST_WIDTH // (max(widths, default=1) * members)))
