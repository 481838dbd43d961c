"""Stacks of pair networks: the networks of R rounds as one network, which trains them side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Self, cast

from torch import Tensor, nn

from pairs_lit.nn.architecture import Architecture, get_common_width
from pairs_lit.nn.pair_network import PairNetwork
from pairs_lit.nn.pair_output import Output, PairOutput, interpret_output
from pairs_lit.relation import Relation
from pairs_lit.stacking.ops.dropout import RandomStreams, StepPosition
from pairs_lit.stacking.stack import stack_copies


@dataclass(frozen=True)
class PairStack:
    """The pair networks of R rounds with M ensemble members each; each of the R·M networks predicts independently.

    Attributes:
        network: Stacked network, (R·M, N, 2, H, W) → (R·M, N, ...), with member m of round r at index r·M + m.
        clock: Epoch and step from which dropout masks are derived; must be set before each batch.
        members: M, the number of members per round.
        width: Width of the embeddings, or of the output of whole networks.
        relation: Relation by which digit probabilities are compared.
        description: Description of the plain network of one round, with one line per setting or layer.
        module_classes: Classes of the modules in the plain network of one round.
    """

    network: PairNetwork
    clock: StepPosition
    members: int
    width: int
    relation: Relation
    description: list[str]
    module_classes: list[type[nn.Module]]

    @classmethod
    def build(cls, architecture: Architecture, seeds: Sequence[int], builders: Sequence[Architecture] = ()) -> Self:
        """Build the networks of R rounds and stack them.

        Args:
            architecture: Settings of the plain network of a round or member.
            seeds: Seeds of the R rounds. The initial weights of round r are those of plain torch after
                ``torch.manual_seed(seeds[r])``. The seeds of further members are derived
                (:meth:`Architecture.derive_member_seeds`).
            builders: One architecture per round if rounds differ in settings of their parts, such as a dropout
                probability. If empty, all rounds are built by ``architecture``.

        Raises:
            PairsLitError: A network cannot be built, or networks share parameters or differ in the width of their
                embeddings.
        """
        architectures = builders or [architecture] * len(seeds)
        pairs = zip(architectures, seeds, strict=True)
        members = [
            (builder, member_seed) for builder, seed in pairs for member_seed in builder.derive_member_seeds(seed)
        ]
        networks = [builder.build(seed) for builder, seed in members]
        width = get_common_width({network.width for network in networks})
        description = architecture.describe(networks[0])
        parts = [networks[0].get_submodule(name) for name in networks[0].parts(architecture.pair_shape)]
        kinds = [type(module) for part in parts for module in part.modules()]
        clock = StepPosition()
        streams = RandomStreams(tuple(seed for _, seed in members), (0,) * len(members), clock)
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
        """Compare the pairs of R rounds: images (R, B, 2, H, W) → R·M outputs, ordered by round, then by member."""
        repeated = images.repeat_interleave(self.members, 0) if self.members > 1 else images
        output: Output = self.network(repeated)
        return interpret_output(output, self.relation, is_digit_head=self.network.is_digit_head)


_CONVOLUTIONAL_STACK_SIZE = 10  # networks per stack; larger stacks hardly reduce the time per round
_DENSE_STACK_SIZE = 20  # the same, for networks without convolutions
_MAX_STACKS = 128  # with thousands of rounds, building more stacks would take long
_MAX_STACK_CHANNELS = 2560  # output channels of a convolution summed over a stack; a step's memory grows with them


def compute_default_stack_size(architecture: Architecture, seeds: Sequence[int]) -> int:
    """Return the default number of rounds per stack.

    It depends only on the network and the number of rounds, not on the machine, because the last bits of all results
    depend on it. Small stacks fit into the processor's cache and keep several cores busy, so 4 or more rounds form at
    least two stacks. Wide convolutions get smaller stacks, because a step's memory grows with rounds × channels. A
    round of M members counts as M rounds.
    """
    layers = [layer for part in architecture.build(seeds[0]).backbones for layer in part.modules()]
    channels = [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)]
    rounds, members = len(seeds), architecture.members
    target_size = _CONVOLUTIONAL_STACK_SIZE if channels else _DENSE_STACK_SIZE
    stacks = min(max(ceil(rounds * members / target_size), 2 if rounds >= 4 else 1), _MAX_STACKS)
    return min(ceil(rounds / stacks), max(1, _MAX_STACK_CHANNELS // (max(channels, default=1) * members)))
