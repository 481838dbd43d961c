"""The comparer: from the images of a pair to the answer, for R rounds at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer

from pairs_lit.errors import PairsLitError, place_of, reason_of
from pairs_lit.nn.backbones import BackboneFactory, Shape
from pairs_lit.nn.blocks import CodeActivation, code_activation_layer
from pairs_lit.nn.built import Built
from pairs_lit.nn.heads import DigitHead, HeadFactory
from pairs_lit.nn.layers import Clock, Streams
from pairs_lit.nn.stack import Loop, check_separate, stack_copies
from pairs_lit.relation import DIGITS, Relation, relation_probability
from pairs_lit.seeds import generators_kept, seeded
from pairs_lit.threads import computing_on

Sharing = Literal["shared", "separate", "joint"]
Readout = Literal["none", "identity", "linear"]
Kind = Literal["logit", "logits", "probability"]
Taken = TypeVar("Taken")


@dataclass(frozen=True)
class Comparison:
    """What a comparer says of B pairs in each of R rounds.

    Attributes:
        output: (R, B) one logit or one probability of the relation, or (R, B, 2) two logits.
        kind: Which of them.
        digit_logits: (R, B, 2, K), or None without a read-out.
    """

    output: Tensor
    kind: Kind
    digit_logits: Tensor | None

    def misshapen(self, pairs: int) -> bool:
        """Say whether what the network gives is not what it should give of so many pairs in one round."""
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


@dataclass(frozen=True)
class Architecture:
    """The plain network of one round, as constructor arguments.

    Attributes:
        backbone: Makes a backbone from (channels, H, W); channels are 2 for ``joint``, else 1.
        head: Makes a head from the width of the concatenated code.
        sharing: ``shared``: one backbone for both images; ``separate``: one each; ``joint``: the pair is one image of
            two channels, and there are no digit logits.
        readout: Where the digit logits come from: ``identity``: the code itself, of width 10; ``linear``: a linear
            layer on each image's code, beside the head (pillonel); ``none``: nowhere.
        code_activation: The activation between each image's code and the head.
        relation: What a probability head compares by.
        image_size: H = W.
    """

    backbone: BackboneFactory
    head: HeadFactory
    sharing: Sharing
    readout: Readout
    code_activation: CodeActivation
    relation: Relation
    image_size: int

    @property
    def image_shape(self) -> Shape:
        """What the backbone sees."""
        return (2 if self.sharing == "joint" else 1, self.image_size, self.image_size)

    def build(self, seed: int) -> "PlainParts":
        """Build one round's plain parts after ``torch.manual_seed(seed)``: backbone(s), read-out, head."""
        with seeded(seed), computing_on(1):  # some first weights depend on the number of threads
            branches = range(2 if self.sharing == "separate" else 1)
            backbones = [_made(self.backbone, self.image_shape, "backbone") for _ in branches]
            widths = {code_width(backbone, self.image_shape) for backbone in backbones}
            width = max(widths)
            readout = self._readout(width)
            both = width if self.sharing == "joint" else 2 * width
            head = _made(self.head, both, "head")
            if not isinstance(_probed(head, (both,), "head"), Tensor):
                raise PairsLitError(f"a head must return one tensor; {type(head).__name__} returned something else.")
        return PlainParts(backbones, readout, head, widths)

    def check_separate(self, seed: int) -> None:
        """Refuse parts that two rounds would share, whether they stand in one stack or in two.

        Raises:
            PairsLitError: Building the network twice gives the same parameter twice.
        """
        for both in zip(self.build(seed).modules, self.build(seed).modules, strict=True):
            check_separate(both)

    def description(self, parts: "PlainParts") -> list[str]:
        """Describe the plain network: its settings, then its layers, a line each."""
        settings = [
            f"sharing: {self.sharing}",
            f"readout: {self.readout}",
            f"code_activation: {self.code_activation}",
            f"relation: {self.relation}",
        ]
        modules = [*parts.backbones, parts.readout, parts.head]  # a read-out that does not exist is "None"
        return settings + [line.strip() for module in modules for line in repr(module).splitlines()]

    def _readout(self, width: int) -> nn.Module | None:
        if self.readout != "none" and self.sharing == "joint":
            raise PairsLitError(f"model.readout is {self.readout}: with sharing: joint it must be none.")
        if self.readout == "identity" and width != DIGITS:
            raise PairsLitError(
                f"model.readout is identity, which needs a code of width {DIGITS}, but the backbone's is {width}: "
                "change its last width, or use readout: linear or none."
            )
        return nn.Linear(width, DIGITS) if self.readout == "linear" else None


@dataclass(frozen=True)
class PlainParts:
    """One round's plain torch modules, in the order in which they were built, and the widths of its codes."""

    backbones: list[nn.Module]
    readout: nn.Module | None
    head: nn.Module
    widths: set[int]

    @property
    def modules(self) -> list[nn.Module]:
        """All of them."""
        return [*self.backbones, *([] if self.readout is None else [self.readout]), self.head]


def code_width(backbone: nn.Module, shape: Shape) -> int:
    """Read the width F of a backbone's code off two zero images, in evaluation mode.

    Raises:
        PairsLitError: The backbone cannot take the image, or its output is not (N, F).
    """
    code = _probed(backbone, shape, "backbone")
    if not isinstance(code, Tensor) or code.dim() != 2 or len(code) != _PROBED:
        got = tuple(code.shape) if isinstance(code, Tensor) else type(code).__name__
        raise PairsLitError(
            f"a backbone must map (N, C, H, W) to (N, F); {type(backbone).__name__} gave {got} for N = {_PROBED}."
        )
    return code.shape[1]


def _made(factory: Callable[[Taken], nn.Module], taken: Taken, role: str) -> nn.Module:
    """Build a plain module; what its constructor objects to is the user's to mend."""
    if isinstance(factory, nn.Module):
        raise PairsLitError(
            f"model.{role}: one {type(factory).__name__} was built for all rounds: name the class or function in the "
            "main config file or on the command line, so that each round builds its own."
        )
    try:
        built = factory(taken)
    except PairsLitError:
        raise
    except Exception as error:  # whatever a constructor of the user's raises
        unsuited = role == "backbone" and isinstance(error, TypeError) and "unexpected keyword" not in str(error)
        hint = "; if it takes no image shape, name its arguments" if unsuited else ""
        raise PairsLitError(
            f"model.{role} cannot be built for an input of {taken}: {reason_of(error)} ({place_of(error)}){hint}."
        ) from error
    module = built.module if isinstance(built, Built) else built
    resting = next((part for part in module.modules() if not part.training), None)
    if resting is not None:
        raise PairsLitError(
            f"model.{role}: {type(module).__name__} leaves {type(resting).__name__} in evaluation mode, but all layers "
            "are trained: leave out its eval()."
        )
    _own_buffers(module)
    return module


def _own_buffers(module: nn.Module) -> None:
    """Give a module buffers of its own: they may be one constant of their file, which others would see change."""
    own: dict[int, Tensor] = {}
    for name, buffer in list(module.named_buffers(remove_duplicate=False)):
        if isinstance(buffer, UninitializedBuffer):  # of a lazy layer, which makes its own
            continue
        place, _, last = name.rpartition(".")
        setattr(module.get_submodule(place), last, own.setdefault(id(buffer), buffer.clone()))


_PROBED = 2
"""Inputs a module is shown at first: statistics of a single one do not exist."""


def _probed(module: nn.Module, shape: Sequence[int], role: str) -> object:
    """Show a plain module a few zero inputs, in evaluation mode."""
    training = module.training
    try:
        with torch.no_grad(), generators_kept():
            return module.eval()(torch.zeros(_PROBED, *shape))
    except Exception as error:  # whatever a module of the user's raises
        raise PairsLitError(
            f"the {role} {type(module).__name__} cannot take an input of shape {tuple(shape)}: {reason_of(error)} "
            f"({place_of(error)})."
        ) from error
    finally:
        module.train(training)


def _check_widths(rounds: Sequence[PlainParts]) -> None:
    """Refuse backbones whose constructors drew codes of several widths."""
    widths = set[int]().union(*(parts.widths for parts in rounds))
    if len(widths) > 1:
        raise PairsLitError(
            f"the backbones give codes of widths {', '.join(map(str, sorted(widths)))}, in other rounds others: the "
            "width must not depend on random numbers."
        )


class Comparer(nn.Module):
    """R comparers side by side.

    Args:
        architecture: The plain network of one round.
        seeds: The seeds of the R rounds; the first weights of round r are those of plain torch after
            ``torch.manual_seed(seeds[r])``, built in the order backbone(s), read-out, head.

    Attributes:
        clock: Set it before each batch: random numbers derive from it.
        description: The plain network of one round in words, a line a layer or setting.
    """

    def __init__(self, architecture: Architecture, seeds: Sequence[int]) -> None:
        super().__init__()
        rounds = [architecture.build(seed) for seed in seeds]
        _check_widths(rounds)
        self.clock = Clock()
        self.description = architecture.description(rounds[0])
        self._sharing = architecture.sharing
        self._readout = architecture.readout
        self._relation = architecture.relation
        self._digit_head = isinstance(rounds[0].head, DigitHead)
        branches = len(rounds[0].backbones)
        self.branch = stack_copies(
            [backbone for parts in rounds for backbone in parts.backbones],
            Streams(
                tuple(seed for seed in seeds for _ in range(branches)),
                tuple(range(branches)) * len(seeds),
                self.clock,
                "branch",
            ),
        )
        self.code_activation = code_activation_layer(architecture.code_activation)
        readouts = [parts.readout for parts in rounds if parts.readout is not None]
        streams = Streams(tuple(seeds), (0,) * len(seeds), self.clock)
        self.readout = stack_copies(readouts, streams.child("readout")) if readouts else None
        self.head = stack_copies([parts.head for parts in rounds], streams.child("head"))

    @property
    def draws_in_evaluation(self) -> bool:
        """Whether a part of the user's drew random numbers when it was evaluated."""
        return any(isinstance(part, Loop) and part.draws_in_evaluation for part in self.modules())

    def forward(self, images: Tensor) -> Comparison:
        """Compare the pairs of R rounds: images (R, B, 2, H, W)."""
        code = self._code(images)
        digit_logits = self._digit_logits(code)
        output = self.head(self.code_activation(code).flatten(2))
        if self._digit_head:
            return Comparison(relation_probability(self._relation, output), "probability", digit_logits)
        if output.shape[-1] == 1:
            return Comparison(output.squeeze(-1), "logit", digit_logits)
        return Comparison(output, "logits", digit_logits)

    def _code(self, images: Tensor) -> Tensor:
        """(R, B, 2, H, W) → (R, B, 2, F), with ``joint`` (R, B, F)."""
        rounds, pairs, both, *sides = images.shape
        if self._sharing == "joint":
            return self._branched(images)
        if self._sharing == "shared":
            return self._branched(images.reshape(rounds, pairs * both, 1, *sides)).view(rounds, pairs, both, -1)
        split = images.transpose(1, 2).reshape(rounds * both, pairs, 1, *sides)
        return self._branched(split).view(rounds, both, pairs, -1).transpose(1, 2)

    def _branched(self, images: Tensor) -> Tensor:
        code: Tensor = self.branch(images)
        return code

    def _digit_logits(self, code: Tensor) -> Tensor | None:
        if self.readout is None:
            return code if self._readout == "identity" else None
        logits: Tensor = self.readout(code)
        return logits


_LARGEST_STACK = 128
_LARGEST_WIDTH = 2560


def default_stack_size(architecture: Architecture, seed: int) -> int:
    """Return how many rounds make a stack where the user does not say: a fixed function of the network.

    The more rounds a stack has, the less a round costs, up to about a hundred; what a step keeps for its gradients
    grows with rounds × channels, so networks with wide convolutions get smaller stacks. It is never measured, since
    the stack size decides the last float bits.
    """
    layers = [layer for backbone in architecture.build(seed).backbones for layer in backbone.modules()]
    widths = [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)]
    return max(1, min(_LARGEST_STACK, _LARGEST_WIDTH // max(widths, default=1)))
