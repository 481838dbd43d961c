"""``stack()``: R seeded copies of a plain torch module become one module that trains them side by side.

Known layers in an ``nn.Sequential`` (nested too) become stacked layers. Any other module is kept as R copies in a
loop, which is slower but just as correct. Either way, first weights, outputs and gradients are those of the plain
modules.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.seeds import generators_kept, generators_state, seed_generators, seeded
from pairs_lit.stacking.dropout import Clock, StackedDropout, Streams
from pairs_lit.stacking.layers import (
    Rowwise,
    StackedBatchNorm1d,
    StackedBatchNorm2d,
    StackedConv2d,
    StackedConvPoolReLU,
    StackedFlatten,
    StackedLinear,
    StackedNormPoolReLU,
    StackedPool,
    SwitchedOff,
    ToMaps,
    ToRows,
)

_ELEMENTWISE = (
    nn.CELU,
    nn.ELU,
    nn.GELU,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,
    nn.Identity,
    nn.LeakyReLU,
    nn.LogSigmoid,
    nn.Mish,
    nn.ReLU,
    nn.ReLU6,
    nn.SELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Softsign,
    nn.Tanh,
)
_PER_CHANNEL = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


class _Block(nn.Module):
    """Stands for a convolution with the dropout, if any, the max-pool and the ReLU that follow it.

    Args:
        convolution: The plain convolution.
        dropout: The name of the dropout and its probability.
    """

    def __init__(self, convolution: nn.Conv2d, dropout: tuple[str, float] | None) -> None:
        super().__init__()
        self.convolution = convolution
        self.dropout = dropout


class _NormBlock(nn.Module):
    """Stands for a batch norm with the max-pool and the ReLU that follow it.

    Args:
        norm: The plain batch norm.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm = norm


_ON_MAPS = (nn.Conv2d, nn.BatchNorm2d, _Block, _NormBlock, *_PER_CHANNEL)
_WITH_PARAMETERS = {
    nn.Linear: {"weight", "bias"},
    nn.Conv2d: {"weight", "bias"},
    nn.BatchNorm1d: {"weight", "bias"},
    nn.BatchNorm2d: {"weight", "bias"},
}


class Loop(nn.Module):
    """R copies of a plain module in a loop: (R, N, ...) → (R, N, ...), for modules that no stacked layer replaces.

    A copy may change its input in place: each gets its own memory. It may also draw from the global generators of
    torch, NumPy and Python: they are seeded for each round and batch, so that it draws the same numbers whatever runs
    beside it, and restored afterwards. In evaluation the numbers depend on split and batch, not on the epoch.

    Args:
        copies: The R plain modules.
        streams: Where their random numbers come from.

    Attributes:
        draws_in_evaluation: Whether the first batch of an evaluation drew random numbers; None before there was one.
    """

    def __init__(self, copies: Sequence[nn.Module], streams: Streams) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copies)
        self._streams = streams
        self.draws_in_evaluation: bool | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Apply each copy to its own round's images."""
        with generators_kept(x.device):
            return torch.stack([self._called(*each) for each in zip(self.copies, x, self._seeds(), strict=True)])

    def _seeds(self) -> list[int]:
        clock = self._streams.clock
        if self.training:
            return self._streams.derived(clock.epoch, clock.step)
        return self._streams.child(f"evaluation.{clock.split}").derived(clock.step)

    def _called(self, copy: nn.Module, images: Tensor, seed: int) -> Tensor:
        seed_generators(seed, images.device)
        watched = not self.training and self.draws_in_evaluation is None
        before = generators_state(images.device) if watched else []
        output: Tensor = copy(images.clone())
        if watched:
            self.draws_in_evaluation = generators_state(images.device) != before
        return output


class Apart(nn.Module):
    """R modules in a loop, one for each round: (R, N, ...) → (R, N, ...), for rounds whose networks differ.

    A round computes the same whether or not its neighbours have the same network.

    Args:
        rounds: The R modules, (1, N, ...) → (1, N, ...) each.
    """

    def __init__(self, rounds: Sequence[nn.Module]) -> None:
        super().__init__()
        self.rounds = nn.ModuleList(rounds)

    def forward(self, x: Tensor) -> Tensor:
        """Apply each module to its own round's images."""
        return torch.cat([module(images) for module, images in zip(self.rounds, torch.split(x, 1), strict=True)])


def stack(factory: Callable[[], nn.Module], seeds: Sequence[int]) -> nn.Module:
    """Build one plain module per seed and stack them.

    Args:
        factory: Makes the plain module of one round, (N, ...) → (N, ...).
        seeds: One seed for each round; the plain module is built after ``torch.manual_seed(seed)``.

    Returns:
        A module (R, N, ...) → (R, N, ...). Its dropout masks are those of epoch 0, step 0; inside
        :class:`~pairs_lit.nn.comparer.Comparer` they follow the training.

    Raises:
        PairsLitError: Two rounds would share a parameter.

    Example:
        >>> network = stack(lambda: nn.Linear(3, 2), seeds=[0, 1, 2])
        >>> network(torch.zeros(3, 5, 3)).shape
        torch.Size([3, 5, 2])
    """
    check_positive("the number of seeds", len(seeds))
    copies = []
    for seed in seeds:
        with seeded(seed):
            copies.append(factory())
    return stack_copies(copies, Streams(tuple(seeds), (0,) * len(copies), Clock()))


def stack_copies(copies: Sequence[nn.Module], streams: Streams) -> nn.Module:
    """Stack plain modules of equal structure.

    Args:
        copies: The R plain modules; do not use them afterwards.
        streams: Where the random numbers of the stack come from.

    Raises:
        PairsLitError: Two of them share a parameter.
    """
    check_separate(copies)
    if not _alike(copies):
        return Apart([stack_copies([copy], part) for copy, part in zip(copies, streams.apart(), strict=True)])
    if _serves_all(copies[0]):
        return copies[0]
    if not is_stackable(copies[0]):
        return Loop(copies, streams)
    builder = _Builder()
    sequence = copies if _is_sequence(copies[0]) else [nn.Sequential(copy) for copy in copies]
    layers = builder.sequence(cast(Sequence[nn.Sequential], sequence), streams)
    return builder.closed(layers)


def _serves_all(module: nn.Module) -> bool:
    return Rowwise in type(module).__bases__ and not _is_altered(module)


def check_separate(copies: Sequence[nn.Module]) -> None:
    """Refuse plain modules of different rounds that share parameters.

    Raises:
        PairsLitError: Two of them do.
    """
    taken: set[int] = set()
    for copy in copies:
        own = {name: id(value) for name, value in copy.named_parameters()}
        shared = next((name for name, value in own.items() if value in taken), None)
        if shared is not None:
            raise PairsLitError(
                f"{type(copy).__name__} has the same parameter {shared!r} in two rounds, but rounds share nothing: "
                "create all parameters in its constructor."
            )
        taken |= set(own.values())


def is_stackable(module: nn.Module) -> bool:
    """Say whether stacked layers can replace a module: a known layer, or an ``nn.Sequential`` of known layers."""
    if _is_tied(module) or _is_altered(module):
        return False
    if _is_sequence(module):
        return all(is_stackable(child) for child in module.children())
    return _is_known(module)


def _is_tied(module: nn.Module) -> bool:
    """Say whether two places share parameters or buffers, which separate stacked layers would not."""
    state = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return len({id(value) for _, value in state}) < len(state)


def _is_altered(module: nn.Module) -> bool:
    """Say whether a module does more than its layers do: by hooks, or by methods that it overrides."""
    hooks = [module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks]
    hooks += [value._backward_hooks for value in module.parameters() if value._backward_hooks]
    kind = type(module)
    usual = kind.train is nn.Module.train and kind.eval is nn.Module.eval and kind.__call__ is nn.Module.__call__
    return any(hooks) or not usual or not {"forward", "train", "eval"}.isdisjoint(vars(module))


def _is_sequence(module: nn.Module) -> bool:
    """Say whether a module only applies its children in order; parameters of its own would be lost."""
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward and not own


def _is_known(module: nn.Module) -> bool:
    """Exact types only: a subclass may compute something else, and a parametrised layer has other parameters."""
    kind = type(module)
    if isinstance(module, SwitchedOff):
        return _is_known(module.layer)
    if kind in _WITH_PARAMETERS:
        names = {name for name, _ in module.named_parameters()}
        return names <= _WITH_PARAMETERS[kind] and _is_plain(module)
    if type(module) is nn.Flatten:
        return (module.start_dim, module.end_dim) == (1, -1)
    if isinstance(module, nn.MaxPool2d | nn.AdaptiveMaxPool2d) and module.return_indices:
        return False
    return kind in (*_ELEMENTWISE, *_PER_CHANNEL, nn.Dropout)


def _is_plain(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.padding_mode == "zeros"
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return module.momentum is not None
    return True


def _alike(copies: Sequence[nn.Module]) -> bool:
    return all(_form(copy) == _form(copies[0]) for copy in copies[1:])


def _form(module: nn.Module) -> tuple[object, ...]:
    """Return what copies must have in common to be stacked; a constructor may choose its layers at random."""
    state = [(name, value.shape, value.requires_grad) for name, value in module.named_parameters()]
    return repr(module), state, is_stackable(module), _serves_all(module)


class _Builder:
    """Builds the stacked layers of a sequence, switching the layout where the next layer needs the other one."""

    def __init__(self) -> None:
        self._maps = False

    def closed(self, layers: nn.Sequential) -> nn.Module:
        """End in the layout rows."""
        return nn.Sequential(layers, ToRows()) if self._maps else layers

    def sequence(self, copies: Sequence[nn.Sequential], streams: Streams) -> nn.Sequential:
        """Stack the children of plain sequences under their own names."""
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for name, *children in _in_blocks(_pool_before_relu(copies)):
            switch = self._switch(children[0])
            if switch is not None:
                layers[f"layout_{name}"] = switch
            layers[name] = self._layer(name, children, streams)
        return nn.Sequential(layers)

    def _switch(self, plain: nn.Module) -> nn.Module | None:
        if isinstance(plain, _ON_MAPS):
            wanted = True
        elif isinstance(plain, nn.Linear | nn.BatchNorm1d | nn.Flatten):
            wanted = False
        else:
            return None
        before, self._maps = self._maps, wanted
        if before == wanted:
            return None
        return ToMaps() if wanted else ToRows()

    def _layer(self, name: str, copies: Sequence[Any], streams: Streams) -> nn.Module:
        plain = copies[0]
        if _is_sequence(plain):
            return self.sequence(copies, streams.child(name))
        if isinstance(plain, _Block):
            dropout = None if plain.dropout is None else self._dropout(*plain.dropout, streams)
            return StackedConvPoolReLU([copy.convolution for copy in copies], dropout)
        if isinstance(plain, SwitchedOff):
            return SwitchedOff(self._layer("layer", [copy.layer for copy in copies], streams.child(name)))
        if isinstance(plain, _NormBlock):
            return StackedNormPoolReLU([copy.norm for copy in copies])
        if isinstance(plain, nn.Dropout):
            return self._dropout(name, plain.p, streams)
        build = _STACKED.get(type(plain))
        if build is not None:
            return build(copies)
        plain.inplace = False  # an activation that has this option would write into what another module gave
        return cast(nn.Module, plain)

    def _dropout(self, name: str, p: float, streams: Streams) -> StackedDropout:
        return StackedDropout(p, streams.child(name), maps=self._maps)


_STACKED: dict[type[nn.Module], Callable[[Sequence[Any]], nn.Module]] = {
    nn.Linear: StackedLinear,
    nn.Conv2d: StackedConv2d,
    nn.BatchNorm1d: StackedBatchNorm1d,
    nn.BatchNorm2d: StackedBatchNorm2d,
    nn.Flatten: lambda _: StackedFlatten(),
    **dict.fromkeys(_PER_CHANNEL, lambda copies: StackedPool(copies[0])),
}


def _pool_before_relu(copies: Sequence[nn.Sequential]) -> list[tuple[Any, ...]]:
    """Return (name, child of each copy) in order, a max-pool moved before the ReLU that precedes it.

    The value and the gradient are the same, since ReLU is monotone, and ReLU sees fewer elements.
    """
    places = copies[0].named_modules(remove_duplicate=False)  # a layer may stand at two places
    names = [name for name, _ in places if name and "." not in name]
    children = list(zip(names, *copies, strict=True))
    for place in range(len(children) - 1):
        first, second = children[place], children[place + 1]
        if type(first[1]) is nn.ReLU and type(second[1]) is nn.MaxPool2d:
            children[place], children[place + 1] = second, first
    return children


def _in_blocks(children: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Join layers that one pass can compute, under the first layer's name: see :data:`_BLOCKS`."""
    whole: list[tuple[Any, ...]] = []
    rest = children
    while rest:
        length = _block_length([child[1] for child in rest[:4]])
        name, *first = rest[0]
        if length > 1 and isinstance(first[0], nn.BatchNorm2d):
            first = [_NormBlock(norm) for norm in first]
        elif length > 1:
            dropout = (rest[1][0], rest[1][1].p) if length == 4 else None
            first = [_Block(convolution, dropout) for convolution in first]
        whole.append((name, *first))
        rest = rest[length:]
    return whole


_BLOCKS = (
    [nn.Conv2d, nn.MaxPool2d, nn.ReLU],
    [nn.Conv2d, nn.Dropout, nn.MaxPool2d, nn.ReLU],
    [nn.BatchNorm2d, nn.MaxPool2d, nn.ReLU],
)


def _block_length(layers: Sequence[Any]) -> int:
    """Return how many of the next layers one pass can do; 1: only the first."""
    for kinds in _BLOCKS:
        block = layers[: len(kinds)]
        if [type(layer) for layer in block] == kinds and all(map(_is_usual, block)):
            return len(kinds)
    return 1


def _is_usual(layer: Any) -> bool:  # noqa: ANN401 - any layer
    """Say whether the kernels know a layer's settings."""
    if isinstance(layer, nn.Conv2d):
        return repr(layer) == repr(nn.Conv2d(layer.in_channels, layer.out_channels, 3, device="meta"))
    if isinstance(layer, nn.MaxPool2d):
        return repr(layer) == repr(nn.MaxPool2d(2))
    if isinstance(layer, nn.BatchNorm2d):
        return layer.affine and layer.track_running_stats
    return not isinstance(layer, nn.Dropout) or layer.p < 1
