"""Dropout for stacked networks, with masks computed from each round's seed, the layer, the epoch and the step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pairs_lit.seeds import derive_seed
from pairs_lit.system.device_constants import DeviceConstants

_WORD_RANGE = 2**32


@dataclass
class StepPosition:
    """Current position of a stack in training or evaluation.

    The random numbers of a stack depend on this position and on the seeds of its rounds.

    Attributes:
        epoch: The current epoch; the random numbers of an evaluation do not depend on it.
        step: The index of the batch within the split.
        split: The split that the batch comes from.
    """

    epoch: int = 0
    step: int = 0
    split: str = "train"


@dataclass(frozen=True)
class RandomStreams:
    """Random number streams of one part of a stacked network, one stream per copy.

    Attributes:
        seeds: The seed of the round that each of the R copies belongs to.
        copies: The index of each copy within its round: 0, or 0 and 1 for two branches with separate weights.
        clock: The current position of the stack in training or evaluation.
        name: The name of the part within the network.
    """

    seeds: tuple[int, ...]
    copies: tuple[int, ...]
    clock: StepPosition
    name: str = ""

    def get_child(self, name: str) -> "RandomStreams":
        """Return the streams of a submodule of this part."""
        return replace(self, name=f"{self.name}.{name}")

    def split_copies(self) -> "list[RandomStreams]":
        """Return one set of streams per copy, each for that copy alone."""
        pairs = zip(self.seeds, self.copies, strict=True)
        return [replace(self, seeds=(seed,), copies=(copy,)) for seed, copy in pairs]

    def derive_seeds(self, *indices: int) -> list[int]:
        """Return one seed per copy, derived from its round's seed, the name of the part and the indices."""
        pairs = zip(self.seeds, self.copies, strict=True)
        return [derive_seed(seed, self.name, copy, *indices) for seed, copy in pairs]


def _to_int32(value: int) -> int:
    return value - _WORD_RANGE if value >= _WORD_RANGE // 2 else value


def _scramble_bits(x: Tensor, middle: Tensor | int = 0) -> Tensor:
    """Hash int32 numbers by C. Wellons' lowbias32, a 32-bit hash with full avalanche.

    ``middle`` is mixed in half-way. The masks turn the arithmetic shifts of int32 into logical ones.
    """
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
    x = x ^ middle
    x = (x ^ ((x >> 15) & 0x1FFFF)) * _to_int32(0x846CA68B)
    return x ^ ((x >> 16) & 0xFFFF)


def compute_step_words(keys: Tensor, step: int) -> Tensor:
    """Return the (R, 2) int32 words from which, with an activation's index, a step computes its keep mask."""
    return _scramble_bits(keys ^ _to_int32(step * 0x9E3779B9 % _WORD_RANGE))


def compute_drop_limit(p: float) -> int:
    """Return the limit below which a 31-bit hash drops an activation, for the probability of dropping it."""
    return int(p * 2**31)


def compute_keep_mask(keys: Tensor, step: int, count: int, limit: int | Tensor) -> Tensor:
    """Compute which of ``count`` activations each round keeps in one step; the result depends on the arguments alone.

    Args:
        keys: (R, 2) int32, derived from each round's seed, the layer and the epoch.
        step: The index of the batch within the epoch.
        count: The number of activations of one round in this batch.
        limit: The :func:`compute_drop_limit` of all rounds, or (R, 1) int64 with one per round.

    Returns:
        (R, count) bool: True for the activations that are kept.
    """
    words = compute_step_words(keys, step)
    counter = torch.arange(count, dtype=torch.int32, device=keys.device)
    bits = _scramble_bits(counter ^ words[:, :1], words[:, 1:])
    return (bits & 0x7FFFFFFF) >= limit


class StackedDropout(nn.Module):
    """Dropout layer whose masks are a vectorised hash of each round's seed, the layer, the epoch and the step.

    Args:
        rates: The probability of dropping an activation, one per copy.
        streams: The random number streams of the copies.
        maps: Whether activations come in the layout ``maps``.
        whole: Whether whole maps, (n, c) of (N, C, ...), are dropped, as by ``nn.Dropout2d``.
    """

    def __init__(self, rates: Sequence[float], streams: RandomStreams, *, maps: bool, whole: bool = False) -> None:
        super().__init__()
        self.rates = tuple(rates)
        self._streams = streams
        self._is_maps_layout = maps
        self._should_drop_maps = whole
        self._keys: tuple[int, torch.device, Tensor] | None = None
        self._limits = DeviceConstants([compute_drop_limit(p) for p in rates])
        self._keep_probabilities = DeviceConstants([1 - p for p in rates])

    def extra_repr(self) -> str:
        """Return the dropout probabilities, as ``repr`` shows them."""
        return f"p={', '.join(map(str, dict.fromkeys(self.rates)))}"

    def get_keys(self, device: torch.device) -> Tensor:
        """Return the (R, 2) int32 keys of the current epoch; they are derived and copied once per epoch and cached."""
        epoch = self._streams.clock.epoch
        if self._keys is None or self._keys[:2] != (epoch, device):
            words = [
                [_to_int32(seed % _WORD_RANGE), _to_int32(seed // _WORD_RANGE)]
                for seed in self._streams.derive_seeds(epoch)
            ]
            self._keys = epoch, device, torch.tensor(words, dtype=torch.int32).to(device)
        return self._keys[2]

    @property
    def is_active(self) -> bool:
        """Whether the layer is training and drops anything."""
        return self.training and max(self.rates) > 0

    def get_step_words(self, device: torch.device) -> Tensor:
        """Return the :func:`compute_step_words` of the current step."""
        return compute_step_words(self.get_keys(device), self._streams.clock.step)

    def compute_mask(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Return the keep mask of the current step, (R, N, ...) bool, for one plain layer's output shape (N, ...)."""
        mask_shape = [
            size if dimension < 2 or not self._should_drop_maps else 1 for dimension, size in enumerate(shape)
        ]
        count = torch.Size(mask_shape).numel()
        limit: int | Tensor = compute_drop_limit(self.rates[0])
        if len(set(self.rates)) > 1:
            limit = self._limits.copy_to(device, torch.int64)[:, None]
        keep = compute_keep_mask(self.get_keys(device), self._streams.clock.step, count, limit)
        return keep.view(-1, *mask_shape).expand(-1, *shape)

    def forward(self, x: Tensor) -> Tensor:
        """Drop activations while training, and scale the kept ones by 1 / (1 − p)."""
        if not self.is_active:
            return x
        if self._is_maps_layout:
            keep = self.compute_mask((x.shape[-1], *x.shape[1:-1]), x.device).permute(0, 2, 3, 4, 1)
        else:
            keep = self.compute_mask(x.shape[1:], x.device)
        if max(self.rates) == 1:  # copies are stacked only if all or none of them drop everything
            return x * 0
        return x * keep / self._keep_probabilities.shape_like(x)
