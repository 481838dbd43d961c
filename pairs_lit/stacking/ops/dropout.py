"""Dropout in a stack: masks that follow from each round's seed, the layer, the epoch and the step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pairs_lit.seeds import derive

_WORD = 2**32


@dataclass
class Clock:
    """Where a stack is in training or evaluation; its random numbers depend on this and on the round's seed.

    Attributes:
        epoch: The epoch; evaluation does not depend on it.
        step: The batch of the split.
        split: Whose pairs it sees.
    """

    epoch: int = 0
    step: int = 0
    split: str = "train"


@dataclass(frozen=True)
class Streams:
    """Where the random numbers of a stacked part come from.

    Attributes:
        seeds: The round's seed of each of the R copies.
        copies: Which copy within its round it is (0, or 0 and 1 for the two branches that share nothing).
        clock: Where the stack is in its training.
        name: The part's place in the network.
    """

    seeds: tuple[int, ...]
    copies: tuple[int, ...]
    clock: Clock
    name: str = ""

    def child(self, name: str) -> "Streams":
        """Return the streams of a part of this part."""
        return replace(self, name=f"{self.name}.{name}")

    def apart(self) -> "list[Streams]":
        """Return the streams of each copy by itself."""
        pairs = zip(self.seeds, self.copies, strict=True)
        return [replace(self, seeds=(seed,), copies=(copy,)) for seed, copy in pairs]

    def derived(self, *indices: int) -> list[int]:
        """Return a seed for each copy."""
        pairs = zip(self.seeds, self.copies, strict=True)
        return [derive(seed, self.name, copy, *indices) for seed, copy in pairs]


def _int32(value: int) -> int:
    return value - _WORD if value >= _WORD // 2 else value


def _scrambled(x: Tensor, middle: Tensor | int = 0) -> Tensor:
    """Scramble the bits of int32 numbers, mixing in ``middle`` half-way; shifts are made logical by masks.

    The constants are those of C. Wellons' lowbias32, a full-avalanche 32-bit hash.
    """
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
    x = x ^ middle
    x = (x ^ ((x >> 15) & 0x1FFFF)) * _int32(0x846CA68B)
    return x ^ ((x >> 16) & 0xFFFF)


def step_words(keys: Tensor, step: int) -> Tensor:
    """Return the (R, 2) int32 words that decide, with an activation's number, whether a step keeps it."""
    return _scrambled(keys ^ _int32(step * 0x9E3779B9 % _WORD))


def dropout_keep(keys: Tensor, step: int, count: int, p: float | Tensor) -> Tensor:
    """Say which of ``count`` activations each round keeps in one step: a pure function, vectorised over rounds.

    Args:
        keys: (R, 2) int32, from each round's seed, the layer and the epoch.
        step: The batch within the epoch.
        count: Activations of one round in this batch.
        p: The probability of dropping one, in all rounds or, (R, 1) float64, in each.

    Returns:
        (R, count) bool.
    """
    limit = (p * 2**31).long() if isinstance(p, Tensor) else int(p * 2**31)
    now = step_words(keys, step)
    counter = torch.arange(count, dtype=torch.int32, device=keys.device)
    bits = _scrambled(counter ^ now[:, :1], now[:, 1:])
    return (bits & 0x7FFFFFFF) >= limit


class StackedDropout(nn.Module):
    """Dropout whose masks derive from each round's own seed, the layer, the epoch and the step, in one vectorised hash.

    Args:
        rates: The probability of dropping an activation, of each copy.
        streams: Whose masks, and when.
        maps: Whether activations come in the layout maps.
        whole: Whether all activations of a map, (n, c) of (N, C, ...), are dropped together.
    """

    def __init__(self, rates: Sequence[float], streams: Streams, *, maps: bool, whole: bool = False) -> None:
        super().__init__()
        self.rates = tuple(rates)
        self._streams = streams
        self._maps = maps
        self._whole = whole
        self._keys: tuple[int, Tensor] | None = None

    def extra_repr(self) -> str:
        """Show p."""
        return f"p={', '.join(map(str, dict.fromkeys(self.rates)))}"

    def keys(self, device: torch.device) -> Tensor:
        """Return the (R, 2) int32 keys of the current epoch, derived once an epoch."""
        epoch = self._streams.clock.epoch
        if self._keys is None or self._keys[0] != epoch:
            words = [[_int32(seed % _WORD), _int32(seed // _WORD)] for seed in self._streams.derived(epoch)]
            self._keys = epoch, torch.tensor(words, dtype=torch.int32)
        return self._keys[1].to(device)

    @property
    def active(self) -> bool:
        """Whether anything is dropped now."""
        return self.training and max(self.rates) > 0

    def words(self, device: torch.device) -> Tensor:
        """Return the :func:`step_words` of the current step."""
        return step_words(self.keys(device), self._streams.clock.step)

    def mask(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Return which activations of a plain layer's output shape (N, ...) each round keeps now: (R, N, ...) bool."""
        drawn = [size if place < 2 or not self._whole else 1 for place, size in enumerate(shape)]
        count = torch.Size(drawn).numel()
        p: float | Tensor = self.rates[0]
        if len(set(self.rates)) > 1:
            p = torch.tensor(self.rates, dtype=torch.float64, device=device)[:, None]
        keep = dropout_keep(self.keys(device), self._streams.clock.step, count, p)
        return keep.view(-1, *drawn).expand(-1, *shape)

    def forward(self, x: Tensor) -> Tensor:
        """Drop activations while training, scaling the kept ones by 1 / (1 − p)."""
        if not self.active:
            return x
        if self._maps:
            keep = self.mask((x.shape[-1], *x.shape[1:-1]), x.device).permute(0, 2, 3, 4, 1)
        else:
            keep = self.mask(x.shape[1:], x.device)
        if max(self.rates) == 1:  # in all copies, then
            return x * 0
        return x * keep / kept_shares(self.rates, x)


def kept_shares(rates: Sequence[float], x: Tensor) -> Tensor:
    """Return 1 − p of each round, to divide the values of R rounds (R, ...) by."""
    return torch.tensor([1 - p for p in rates], dtype=x.dtype, device=x.device).view(-1, *[1] * (x.dim() - 1))
