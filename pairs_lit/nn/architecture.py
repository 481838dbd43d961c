"""The plain network of one round: how it is built and checked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer

from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.nn.backbones import BackboneFactory, Shape
from pairs_lit.nn.blocks import CodeActivation, activation_layer
from pairs_lit.nn.built import TRIED, Built, BuiltNetwork, tried
from pairs_lit.nn.heads import DigitHead, HeadFactory
from pairs_lit.nn.pair_network import PairNetwork
from pairs_lit.relation import DIGITS, Relation
from pairs_lit.seeds import derive, seeded
from pairs_lit.stacking.stack import check_separate
from pairs_lit.system.threads import computing_on
from pairs_lit.system.tracebacks import place_of, reason_of

Sharing = Literal["shared", "separate", "joint"]
Readout = Literal["none", "identity", "linear"]
Taken = TypeVar("Taken")

MOST_MEMBERS = 100
"""The most networks that a round can have."""

NetworkFactory = Callable[[Shape], nn.Module]
"""Makes a whole pair network, (N, 2, H, W) → answer or (answer, digit logits), from (2, H, W)."""

INSTEAD_OF_NETWORK = {
    "backbone": None,
    "head": None,
    "sharing": "shared",
    "readout": "none",
    "code_activation": "none",
}
"""The settings of a network that consists of parts, as they must be where there is a whole one."""


@dataclass(frozen=True)
class Architecture:
    """The plain network of one round, as constructor arguments.

    Attributes:
        backbone: Makes a backbone from (channels, H, W); channels are 2 for ``joint``, else 1.
        head: Makes a head from the width of the concatenated code.
        sharing: ``shared``: one backbone for both images; ``separate``: one each; ``joint``: the pair is one image of
            two channels, and there are no digit logits.
        readout: Where the digit logits come from: ``identity``: the code itself, of width K; ``linear``: a linear
            layer on each image's code, beside the head (pillonel); ``none``: there are none.
        code_activation: The activation between each image's code and the head.
        relation: The relation that a probability head computes.
        image_size: H = W.
        network: Makes the whole network from (2, H, W), in place of all parts; None: it consists of them.
        classes: K, the number of classes.
        members: M, how many such networks, with seeds of their own, a round has; its answer is their mean.
    """

    backbone: BackboneFactory | None
    head: HeadFactory | None
    sharing: Sharing
    readout: Readout
    code_activation: CodeActivation
    relation: Relation
    image_size: int
    network: NetworkFactory | None = None
    classes: int = DIGITS
    members: int = 1

    def __post_init__(self) -> None:
        """Refuse a whole network beside its parts, a part alone, and no members or far too many."""
        check_positive("model.members", self.members)
        if self.members > MOST_MEMBERS:
            raise PairsLitError(f"model.members is {self.members}: a round has at most {MOST_MEMBERS} networks.")
        if self.network is None:
            missing = [name for name in ("backbone", "head") if getattr(self, name) is None]
            if missing:
                raise PairsLitError(
                    f"model.{missing[0]} is missing: name backbone and head, or a whole pair network as model.network."
                )
            return
        given = [name for name, usual in INSTEAD_OF_NETWORK.items() if getattr(self, name) != usual]
        if given:
            raise PairsLitError(
                f"model.network is a whole pair network, so model.{given[0]} has no place beside it: leave out "
                f"{', '.join(given)}."
            )

    @property
    def image_shape(self) -> Shape:
        """What the backbone, or the whole network, sees."""
        both = self.network is not None or self.sharing == "joint"
        return (2 if both else 1, self.image_size, self.image_size)

    @property
    def pair_shape(self) -> Shape:
        """The shape of a pair of images."""
        return (2, self.image_size, self.image_size)

    def member_seeds(self, seed: int) -> list[int]:
        """Return the seeds of the networks of a round: its own, then one for each further member."""
        return [seed, *(derive(seed, "member", member) for member in range(1, self.members))]

    def build(self, seed: int) -> PairNetwork:
        """Build one network after ``torch.manual_seed(seed)``, in this order: backbone(s), read-out, head.

        Raises:
            PairsLitError: Its parts do not fit together, or a part cannot be built.
        """
        with seeded(seed), computing_on(1):  # some first weights depend on the number of threads
            if self.network is not None:
                network = _made(self.network, self.image_shape, "network")
                return PairNetwork(network=network, width=self._answer_width(network))
            factory, copies = cast(BackboneFactory, self.backbone), range(2 if self.sharing == "separate" else 1)
            backbones = [_made(factory, self.image_shape, "backbone") for _ in copies]
            check_separate(backbones)
            width = check_widths({code_width(backbone, self.image_shape) for backbone in backbones})
            readout = self._readout(width)
            return PairNetwork(
                backbones[0],
                self._head(self.head_width(width)),
                width=width,
                second_branch=backbones[1] if self.sharing == "separate" else None,
                readout=readout,
                code_activation=activation_layer(self.code_activation),
                reads_code=self.readout == "identity",
                is_joint=self.sharing == "joint",
            )

    def _head(self, width: int) -> nn.Module:
        head = _made(cast(HeadFactory, self.head), width, "head")
        if isinstance(head, DigitHead):
            head.check(self.classes)
        if not isinstance(_output(head, width, role="head"), Tensor):
            raise PairsLitError(f"a head must return one tensor; {type(head).__name__} returned something else.")
        return head

    def head_width(self, width: int) -> int:
        """Return the width of what the head sees, for codes of this width."""
        return width if self.sharing == "joint" else 2 * width

    def check_separate(self, seed: int) -> None:
        """Refuse parts that two rounds would share, in one stack or in different ones.

        Raises:
            PairsLitError: Building the network twice gives the same parameter twice.
        """
        for both in zip(self.build(seed).children(), self.build(seed).children(), strict=True):
            check_separate(both)

    def description(self, network: PairNetwork) -> list[str]:
        """Describe the plain network: its settings, then its layers, a line each."""
        named = ("relation",) if self.network is not None else ("sharing", "readout", "code_activation", "relation")
        settings = [f"members: {self.members}"] if self.members > 1 else []
        settings += [f"{name}: {getattr(self, name)}" for name in named]
        modules = [*network.backbones, network.readout, network.head]  # a read-out that does not exist is "None"
        return settings + [line.strip() for module in modules for line in repr(module).splitlines()]

    def _readout(self, width: int) -> nn.Module | None:
        if self.readout != "none" and self.sharing == "joint":
            raise PairsLitError(f"model.readout is {self.readout}: with sharing: joint it must be none.")
        if self.readout == "identity" and width != self.classes:
            raise PairsLitError(
                f"model.readout is identity, which needs a code of width {self.classes}, but the backbone's is "
                f"{width}: change its last width to {self.classes}, the number of classes, or use readout: linear or "
                "none."
            )
        return nn.Linear(width, self.classes) if self.readout == "linear" else None

    def _answer_width(self, network: nn.Module) -> int:
        """Return how many logits a whole network gives a pair.

        Raises:
            PairsLitError: It cannot take pairs, or gives something else than an answer.
        """
        output = _output(network, *self.image_shape, role="network")
        answer, digits = output if isinstance(output, tuple) and len(output) == 2 else (output, None)
        shapes = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in (answer, digits)]
        allowed = [(TRIED,), (TRIED, 1), (TRIED, 2)]
        if shapes[0] not in allowed or shapes[1] not in ((TRIED, 2, self.classes), "NoneType"):
            raise PairsLitError(
                "a network must map pairs (N, 2, H, W) to the answer, (N,), (N, 1) or (N, 2), or to (answer, digit "
                f"logits (N, 2, {self.classes})); {type(network).__name__} gave {' and '.join(map(str, shapes))} for "
                f"N = {TRIED}."
            )
        return 2 if shapes[0] == (TRIED, 2) else 1


def check_widths(widths: set[int]) -> int:
    """Return the one width of all embeddings.

    Raises:
        PairsLitError: There are several, because constructors chose them at random.
    """
    if len(widths) > 1:
        raise PairsLitError(
            f"the networks of different rounds give codes or answers of widths {', '.join(map(str, sorted(widths)))}: "
            "the width must not depend on random numbers."
        )
    return max(widths)


def code_width(backbone: nn.Module, shape: Shape) -> int:
    """Read the width F of a backbone's code off two zero images, in evaluation mode.

    Raises:
        PairsLitError: The backbone cannot take the image, or its output is not (N, F).
    """
    code = _output(backbone, *shape, role="backbone")
    if not isinstance(code, Tensor) or code.dim() != 2 or len(code) != TRIED:
        got = tuple(code.shape) if isinstance(code, Tensor) else type(code).__name__
        raise PairsLitError(
            f"a backbone must map (N, C, H, W) to (N, F); {type(backbone).__name__} gave {got} for N = {TRIED}."
        )
    return code.shape[1]


def _made(factory: Callable[[Taken], nn.Module], taken: Taken, role: str) -> nn.Module:
    """Build a plain module; an error in its constructor is the user's to correct."""
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
        unsuited = role != "head" and isinstance(error, TypeError) and "unexpected keyword" not in str(error)
        hint = "; if it takes no image shape, name its arguments" if unsuited else ""
        raise PairsLitError(
            f"model.{role} cannot be built for an input of {taken}: {reason_of(error)} ({place_of(error)}){hint}."
        ) from error
    module = built.module if isinstance(built, Built | BuiltNetwork) else built
    resting = next((part for part in module.modules() if not part.training), None)
    if resting is not None:
        raise PairsLitError(
            f"model.{role}: {type(module).__name__} leaves {type(resting).__name__} in evaluation mode, but all layers "
            "are trained: leave out its eval()."
        )
    _own_buffers(module)
    module.train()  # one of its own may keep layers in evaluation mode
    return module


def _own_buffers(module: nn.Module) -> None:
    """Give a module its own copies of its buffers: they may be one constant of a file, shared by all rounds."""
    own: dict[int, Tensor] = {}
    for name, buffer in list(module.named_buffers(remove_duplicate=False)):
        if isinstance(buffer, UninitializedBuffer):  # of a lazy layer, which makes its own
            continue
        place, _, last = name.rpartition(".")
        setattr(module.get_submodule(place), last, own.setdefault(id(buffer), buffer.clone()))


def _output(module: nn.Module, *shape: int, role: str) -> object:
    """Return what a module gives for zeros of this shape; what it cannot take is the user's to correct."""
    try:
        return tried(module, shape)
    except Exception as error:  # whatever a module of the user's raises
        raise PairsLitError(
            f"the {role} {type(module).__name__} cannot take an input of shape {shape}: {reason_of(error)} "
            f"({place_of(error)})."
        ) from error
