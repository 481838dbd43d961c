"""The comparer: from the images of a pair to the answer, for R rounds at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from torch import Tensor, nn

from pairs_lit.errors import PairsLitError
from pairs_lit.nn.architecture import Architecture, PlainParts
from pairs_lit.nn.blocks import activation_layer
from pairs_lit.nn.heads import DigitHead
from pairs_lit.relation import relation_probability
from pairs_lit.stacking.looped import Loop
from pairs_lit.stacking.ops.dropout import Clock, Streams
from pairs_lit.stacking.program.summary import described
from pairs_lit.stacking.stack import stack_copies
from pairs_lit.stacking.stacked_network import MappedNetwork

Kind = Literal["logit", "logits", "probability"]


@dataclass(frozen=True)
class Answer:
    """A comparer's answers for B pairs in each of R rounds.

    Attributes:
        output: (R, B) one logit or one probability of the relation, or (R, B, 2) two logits.
        kind: Which of them.
        digit_logits: (R, B, 2, K), or None without a read-out.
        digit_probabilities: (R, B, 2, K), from which alone the output follows (:func:`relation_probability`); None
            where it does not.
        averaged: Whether it is a mean of answers; then the output is a probability, and the digit logits are the
            logarithms of mean probabilities.
    """

    output: Tensor
    kind: Kind
    digit_logits: Tensor | None
    digit_probabilities: Tensor | None = None
    averaged: bool = False

    def misshapen(self, pairs: int) -> bool:
        """Say whether the output has the wrong shape for this many pairs in one round."""
        expected = (1, pairs, 2) if self.kind == "logits" else (1, pairs)
        return tuple(self.output.shape) != expected

    def probability(self) -> Tensor:
        """Return P(relation), (R, B)."""
        if self.kind == "probability":
            return self.output
        return self.output.sigmoid() if self.kind == "logit" else self.output.softmax(-1)[..., 1]

    def decision(self) -> Tensor:
        """Return whether the relation is said to hold, (R, B) bool: P above 0.5, a logit above 0."""
        if self.kind == "probability":
            return self.output > 0.5
        return self.output > 0 if self.kind == "logit" else self.output[..., 1] > self.output[..., 0]


def check_widths(widths: set[int]) -> None:
    """Refuse backbones whose constructors drew codes of several widths."""
    if len(widths) > 1:
        raise PairsLitError(
            f"the networks of different rounds give codes or answers of widths {', '.join(map(str, sorted(widths)))}: "
            "the width must not depend on random numbers."
        )


class Comparer(nn.Module):
    """R comparers side by side; with M members a round, R·M, which all the same give answers of their own.

    Args:
        architecture: The plain network of one round, or of one of its members.
        seeds: The seeds of the R rounds; the first weights of round r are those of plain torch after
            ``torch.manual_seed(seeds[r])``, built in the order backbone(s), read-out, head. Further members have the
            seeds that :meth:`Architecture.member_seeds` says.
        builders: What builds the plain network of each round, where not all are built alike; they differ from the
            architecture in what builds the parts only.

    Attributes:
        members: M.
        clock: Set it before each batch: random numbers derive from it.
        widths: Those of the rounds' codes; one, or this is refused.
        description: The plain network of one round in words, a line a layer or setting.
        kinds: The classes of the modules that the plain network of one round consists of.
    """

    def __init__(self, architecture: Architecture, seeds: Sequence[int], builders: Sequence[Architecture] = ()) -> None:
        super().__init__()
        each = builders or [architecture] * len(seeds)
        own = [(builder, one) for builder, seed in zip(each, seeds, strict=True) for one in builder.member_seeds(seed)]
        rounds = [builder.build(seed) for builder, seed in own]
        self.members = architecture.members
        self.widths = set[int]().union(*(parts.widths for parts in rounds))
        check_widths(self.widths)
        self.clock = Clock()
        self.description = architecture.description(rounds[0])
        self.kinds = list(dict.fromkeys(type(each) for part in rounds[0].modules for each in part.modules()))
        self._sharing = architecture.sharing
        self._readout = architecture.readout
        self._relation = architecture.relation
        self._digit_head = isinstance(rounds[0].head, DigitHead)
        streams = Streams(tuple(seed for _, seed in own), (0,) * len(own), self.clock)
        self.network: nn.Module | None = None
        if architecture.network is not None:
            networks = [parts.backbones[0] for parts in rounds]
            self.network = stack_copies(networks, streams.child("network"), architecture.image_shape)
        else:
            self._add_parts(architecture, rounds, streams)

    def _add_parts(self, architecture: Architecture, rounds: Sequence[PlainParts], streams: Streams) -> None:
        backbones = [backbone for parts in rounds for backbone in parts.backbones]
        branches = len(rounds[0].backbones)
        each_seed = tuple(seed for seed in streams.seeds for _ in range(branches))
        places = tuple(range(branches)) * len(rounds)
        self.branch = stack_copies(
            backbones, Streams(each_seed, places, self.clock, "branch"), architecture.image_shape
        )
        self.code_activation = activation_layer(architecture.code_activation)
        readouts = [parts.readout for parts in rounds if parts.readout is not None]
        width = max(self.widths)
        self.readout = stack_copies(readouts, streams.child("readout"), [2, width]) if readouts else None
        heads = [parts.head for parts in rounds if parts.head is not None]
        self.head = stack_copies(heads, streams.child("head"), [architecture.head_width(width)])

    def described(self) -> str:
        """Return how each part of the stack works, in words."""
        parts = [
            (name, part) for name, part in self.named_children() if name in ("network", "branch", "readout", "head")
        ]
        return "\n\n".join(f"{name}\n{described(part)}" for name, part in parts)

    def ways(self) -> list[str]:
        """Say which parts do not train as one stack, and why."""
        loops = [part for part in self.modules() if isinstance(part, Loop)]
        found = [
            f"{type(loop.copies[0]).__name__} trains as copies in a loop, which is slower: it {loop.reason}"
            for loop in loops
        ]
        mapped = [part for part in self.modules() if isinstance(part, MappedNetwork)]
        return found + [f"a part is computed by torch.vmap, which is slower: it {part.reason}" for part in mapped]

    @property
    def draws_in_evaluation(self) -> bool:
        """Whether one of the user's modules drew random numbers when it was evaluated."""
        return any(isinstance(part, Loop) and part.draws_in_evaluation for part in self.modules())

    def forward(self, images: Tensor) -> Answer:
        """Compare the pairs of R rounds: images (R, B, 2, H, W) → R answers, or R·M, round after round."""
        if self.members > 1:
            images = images.repeat_interleave(self.members, 0)
        if self.network is not None:
            whole = self.network(images)
            output, digit_logits = (whole, None) if isinstance(whole, Tensor) else whole
            return _answered(output if output.dim() > 2 else output.unsqueeze(-1), digit_logits)
        code = self._code(images)
        digit_logits = code if self._readout == "identity" else None
        if self.readout is not None:
            digit_logits = self.readout(code)
        output = self.head(self.code_activation(code).flatten(2))
        if self._digit_head:
            return Answer(relation_probability(self._relation, output), "probability", digit_logits, output)
        return _answered(output, digit_logits)

    def _code(self, images: Tensor) -> Tensor:
        """(R, B, 2, H, W) → (R, B, 2, F), with ``joint`` (R, B, F)."""
        rounds, pairs, both, *sides = images.shape
        code: Tensor
        if self._sharing == "joint":
            code = self.branch(images)
        elif self._sharing == "shared":
            code = self.branch(images.reshape(rounds, pairs * both, 1, *sides)).view(rounds, pairs, both, -1)
        else:
            split = images.transpose(1, 2).reshape(rounds * both, pairs, 1, *sides)
            code = self.branch(split).view(rounds, both, pairs, -1).transpose(1, 2)
        return code


def _answered(output: Tensor, digit_logits: Tensor | None) -> Answer:
    """Return the answer that one or two logits a pair are."""
    if output.shape[-1] == 1:
        return Answer(output.squeeze(-1), "logit", digit_logits)
    return Answer(output, "logits", digit_logits)


_ENOUGH = 10  # rounds of a convolutional network in a stack; more make a round hardly cheaper
_ENOUGH_DENSE = 20
_MOST_STACKS = 128
_LARGEST_WIDTH = 2560


def default_stack_size(architecture: Architecture, seeds: Sequence[int]) -> int:
    """Return how many rounds make a stack by default: a fixed function of the network and the number of rounds.

    Small stacks stay in the processor's cache and keep many cores busy; 4 rounds or more make two stacks at least. A
    step's memory grows with rounds × channels, so wide convolutions get smaller stacks. Nothing is timed, and nothing
    depends on the machine: the last float bits depend on the size. A round of M members counts as M.
    """
    layers = [layer for part in architecture.build(seeds[0]).backbones for layer in part.modules()]
    widths = [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)]
    rounds, members, enough = len(seeds), architecture.members, _ENOUGH if widths else _ENOUGH_DENSE
    stacks = min(max(ceil(rounds * members / enough), 2 if rounds >= 4 else 1), _MOST_STACKS)
    return min(ceil(rounds / stacks), max(1, _LARGEST_WIDTH // (max(widths, default=1) * members)))
