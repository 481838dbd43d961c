"""Building and checking the plain network of one round."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer

from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.nn.backbones import BackboneFactory, Shape
from pairs_lit.nn.blocks import CodeActivation, build_activation
from pairs_lit.nn.built import PROBE_SIZE, Built, BuiltNetwork, run_on_zeros
from pairs_lit.nn.heads import DigitHead, HeadFactory
from pairs_lit.nn.pair_network import PairNetwork
from pairs_lit.relation import NUM_DIGITS, Relation
from pairs_lit.seeds import derive_seed, use_seed
from pairs_lit.stacking.stack import check_no_shared_parameters
from pairs_lit.system.threads import use_threads
from pairs_lit.system.tracebacks import format_reason, locate_error

Sharing = Literal["shared", "separate", "joint"]
Readout = Literal["none", "identity", "linear"]
FactoryInput = TypeVar("FactoryInput")

MAX_MEMBERS = 100
"""Maximum number of ensemble members per round."""

NetworkFactory = Callable[[Shape], nn.Module]
"""Builds a whole pair network, (N, 2, H, W) → output or (output, digit logits), from the shape (2, H, W)."""

PART_DEFAULTS = {
    "backbone": None,
    "head": None,
    "sharing": "shared",
    "readout": "none",
    "code_activation": "none",
}
"""Defaults of the settings that describe the parts of a network; a whole network allows no other values."""


@dataclass(frozen=True)
class Architecture:
    """Settings of the plain network of one round, and its builder.

    Attributes:
        backbone: Builds a backbone from (channels, H, W); ``joint`` has 2 channels, otherwise there is 1.
        head: Builds a head from the width of the concatenated embeddings.
        sharing: With ``shared``, both images use one backbone; with ``separate``, each image has its own. With
            ``joint``, the pair is one image of two channels, and there are no digit logits.
        readout: Source of the digit logits. ``identity`` uses the embedding itself, of width K; ``linear`` applies a
            linear layer to each image's embedding, next to the head (pillonel); ``none`` gives no digit logits.
        code_activation: Activation between each image's embedding and the head.
        relation: Relation that a head with digit probabilities computes.
        image_size: H = W.
        network: Builds a whole network from (2, H, W) in place of all parts, or None if the network has parts.
        classes: K, the number of classes.
        members: M, the number of such networks in a round, each with its own seed. The round predicts their mean.
    """

    backbone: BackboneFactory | None
    head: HeadFactory | None
    sharing: Sharing
    readout: Readout
    code_activation: CodeActivation
    relation: Relation
    image_size: int
    network: NetworkFactory | None = None
    classes: int = NUM_DIGITS
    members: int = 1

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            PairsLitError: A whole network is combined with settings of its parts, a part is missing, or the number of
                members is out of range.
        """
        check_positive("model.members", self.members)
        if self.members > MAX_MEMBERS:
            raise PairsLitError(f"model.members must be at most {MAX_MEMBERS}, got {self.members}.")
        if self.network is None:
            missing = [name for name in ("backbone", "head") if getattr(self, name) is None]
            if missing:
                raise PairsLitError(
                    f"model.{missing[0]} is missing. Set model.backbone and model.head, or a whole pair network as "
                    "model.network."
                )
            return
        conflicts = [name for name, default in PART_DEFAULTS.items() if getattr(self, name) != default]
        if conflicts:
            raise PairsLitError(
                f"model.network is a whole pair network and cannot be combined with model.{conflicts[0]}. Leave out "
                f"{', '.join(conflicts)}."
            )

    @property
    def image_shape(self) -> Shape:
        """The input shape of the backbone, or of the whole network."""
        sees_pair = self.network is not None or self.sharing == "joint"
        return (2 if sees_pair else 1, self.image_size, self.image_size)

    @property
    def pair_shape(self) -> Shape:
        """The shape of a pair of images."""
        return (2, self.image_size, self.image_size)

    def derive_member_seeds(self, seed: int) -> list[int]:
        """Return the seeds of a round's members: the round's seed first, then one derived seed per further member."""
        return [seed, *(derive_seed(seed, "member", member) for member in range(1, self.members))]

    def build(self, seed: int) -> PairNetwork:
        """Build one network after ``torch.manual_seed(seed)``, in this order: backbone(s), read-out, head.

        Raises:
            PairsLitError: The parts do not fit together, or a part cannot be built.
        """
        with use_seed(seed), use_threads(1):  # some initial weights depend on the number of threads
            if self.network is not None:
                network = _build_part(self.network, self.image_shape, "network")
                return PairNetwork(network=network, width=self._get_output_width(network))
            factory, copies = cast(BackboneFactory, self.backbone), range(2 if self.sharing == "separate" else 1)
            backbones = [_build_part(factory, self.image_shape, "backbone") for _ in copies]
            check_no_shared_parameters(backbones)
            width = get_common_width({get_embedding_width(backbone, self.image_shape) for backbone in backbones})
            readout = self._build_readout(width)
            return PairNetwork(
                backbones[0],
                self._build_head(self.get_head_width(width)),
                width=width,
                second_branch=backbones[1] if self.sharing == "separate" else None,
                readout=readout,
                code_activation=build_activation(self.code_activation),
                reads_code=self.readout == "identity",
                is_joint=self.sharing == "joint",
            )

    def _build_head(self, width: int) -> nn.Module:
        """Build the head for an input of this width, and check its output."""
        head = _build_part(cast(HeadFactory, self.head), width, "head")
        if isinstance(head, DigitHead):
            head.check_width(self.classes)
        if not isinstance(_run_part_on_zeros(head, width, role="head"), Tensor):
            raise PairsLitError(f"the head {type(head).__name__} must return one tensor, but returned something else.")
        return head

    def get_head_width(self, width: int) -> int:
        """Return the width of the head's input, for embeddings of this width."""
        return width if self.sharing == "joint" else 2 * width

    def check_no_shared_parts(self, seed: int) -> None:
        """Raise PairsLitError if building the network twice gives the same parameter twice.

        Rounds would then share it, whether they are in one stack or in different ones.
        """
        for same_part in zip(self.build(seed).children(), self.build(seed).children(), strict=True):
            check_no_shared_parameters(same_part)

    def describe(self, network: PairNetwork) -> list[str]:
        """Return a description of the plain network: one line per setting, then one per layer.

        Checkpoints store these lines and compare them with the configuration's.
        """
        names = ("relation",) if self.network is not None else ("sharing", "readout", "code_activation", "relation")
        settings = [f"members: {self.members}"] if self.members > 1 else []
        settings += [f"{name}: {getattr(self, name)}" for name in names]
        modules = [*network.backbones, network.readout, network.head]  # a missing read-out appears as "None"
        return settings + [line.strip() for module in modules for line in repr(module).splitlines()]

    def _build_readout(self, width: int) -> nn.Module | None:
        """Build the read-out for embeddings of this width, or return None if there is no linear layer."""
        if self.readout != "none" and self.sharing == "joint":
            raise PairsLitError(f"model.readout must be none with sharing: joint, got {self.readout}.")
        if self.readout == "identity" and width != self.classes:
            raise PairsLitError(
                f"model.readout: identity needs embeddings of width {self.classes}, but the backbone's have width "
                f"{width}. Change its last width to {self.classes}, the number of classes, or use readout: linear or "
                "none."
            )
        return nn.Linear(width, self.classes) if self.readout == "linear" else None

    def _get_output_width(self, network: nn.Module) -> int:
        """Return the number of logits per pair that a whole network gives.

        Raises:
            PairsLitError: The network cannot take pairs, or its output has an unsupported shape.
        """
        result = _run_part_on_zeros(network, *self.image_shape, role="network")
        output, digits = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
        shapes = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in (output, digits)]
        allowed = [(PROBE_SIZE,), (PROBE_SIZE, 1), (PROBE_SIZE, 2)]
        if shapes[0] not in allowed or shapes[1] not in ((PROBE_SIZE, 2, self.classes), "NoneType"):
            raise PairsLitError(
                "a network must map pairs (N, 2, H, W) to an output (N,), (N, 1) or (N, 2), or to (output, digit "
                f"logits (N, 2, {self.classes})). {type(network).__name__} gave {' and '.join(map(str, shapes))} for "
                f"N = {PROBE_SIZE}."
            )
        return 2 if shapes[0] == (PROBE_SIZE, 2) else 1


def get_common_width(widths: set[int]) -> int:
    """Return the width that the embeddings of all networks have in common.

    Raises:
        PairsLitError: There are several widths, because constructors chose them at random.
    """
    if len(widths) > 1:
        raise PairsLitError(
            "the networks of different rounds have embeddings or outputs of widths "
            f"{', '.join(map(str, sorted(widths)))}. The width must not depend on random numbers."
        )
    return max(widths)


def get_embedding_width(backbone: nn.Module, shape: Shape) -> int:
    """Return the width F of a backbone's embeddings, measured on two zero images in evaluation mode.

    Raises:
        PairsLitError: The backbone cannot take the image, or its output is not (N, F).
    """
    embedding = _run_part_on_zeros(backbone, *shape, role="backbone")
    if not isinstance(embedding, Tensor) or embedding.dim() != 2 or len(embedding) != PROBE_SIZE:
        got = tuple(embedding.shape) if isinstance(embedding, Tensor) else type(embedding).__name__
        raise PairsLitError(
            f"a backbone must map (N, C, H, W) to (N, F). {type(backbone).__name__} gave {got} for N = {PROBE_SIZE}."
        )
    return embedding.shape[1]


def _build_part(factory: Callable[[FactoryInput], nn.Module], argument: FactoryInput, role: str) -> nn.Module:
    """Build a plain module in training mode.

    Args:
        factory: The module's builder.
        argument: The builder's argument: the image shape, or the width of the head's input.
        role: ``backbone``, ``head`` or ``network``.

    Raises:
        PairsLitError: The builder fails, is a module itself, or leaves a layer in evaluation mode.
    """
    if isinstance(factory, nn.Module):
        raise PairsLitError(
            f"model.{role} must be a class or function that builds a new module for each round, got one "
            f"{type(factory).__name__} for all rounds. Name the class or function in the main config file or on the "
            "command line."
        )
    try:
        built = factory(argument)
    except PairsLitError:
        raise
    except Exception as error:  # a user's constructor may raise anything
        may_take_no_shape = role != "head" and isinstance(error, TypeError) and "unexpected keyword" not in str(error)
        hint = " If it takes no image shape, set its arguments by name." if may_take_no_shape else ""
        raise PairsLitError(
            f"model.{role} cannot be built for an input of {argument}: {format_reason(error)} "
            f"({locate_error(error)}).{hint}"
        ) from error
    module = built.module if isinstance(built, Built | BuiltNetwork) else built
    frozen = next((part for part in module.modules() if not part.training), None)
    if frozen is not None:
        raise PairsLitError(
            f"model.{role}: {type(module).__name__} leaves {type(frozen).__name__} in evaluation mode, but all layers "
            "are trained. Remove the call of eval()."
        )
    _copy_buffers(module)
    module.train()  # the module's own train() may put some layers into evaluation mode
    return module


def _copy_buffers(module: nn.Module) -> None:
    """Replace the buffers of a module by copies.

    A buffer may be a global tensor of a user file, which all rounds would otherwise share.
    """
    copies: dict[int, Tensor] = {}
    for name, buffer in list(module.named_buffers(remove_duplicate=False)):
        if isinstance(buffer, UninitializedBuffer):  # a lazy layer creates this buffer later
            continue
        parent, _, buffer_name = name.rpartition(".")
        setattr(module.get_submodule(parent), buffer_name, copies.setdefault(id(buffer), buffer.clone()))


def _run_part_on_zeros(module: nn.Module, *shape: int, role: str) -> object:
    """Return the output of a module for a zero input of this shape.

    Raises:
        PairsLitError: The module cannot take the input.
    """
    try:
        return run_on_zeros(module, shape)
    except Exception as error:  # a user's module may raise anything
        raise PairsLitError(
            f"the {role} {type(module).__name__} cannot take an input of shape {shape}: {format_reason(error)} "
            f"({locate_error(error)})."
        ) from error
