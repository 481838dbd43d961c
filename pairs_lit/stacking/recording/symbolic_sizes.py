"""Symbolic sizes: integers that a traced module computes from N, the number of its inputs."""

from typing import Any

from torch import Tensor

from pairs_lit.stacking.recording.traced_graph import UntraceableError, VmapOnlyError


class SymbolicSize(int):
    """An integer that is known to be factor · N + offset, where N is the number of inputs.

    Sums, differences and multiples of it are symbolic sizes, too. Any other operation, such as a comparison with a
    number, raises :class:`VmapOnlyError`, because its result would hold for the present N only.

    Attributes:
        factor: The factor of N.
        offset: The constant that is added.
    """

    factor: int
    offset: int

    @classmethod
    def build(cls, value: int, factor: int, offset: int = 0) -> "SymbolicSize":
        """Build a symbolic size that equals ``value`` for the present N."""
        size = cls(value)
        size.factor, size.offset = factor, offset
        return size

    def __repr__(self) -> str:
        """Return the formula, which is the same for every N."""
        return f"{self.factor}·N+{self.offset}"

    def __add__(self, other: int) -> "SymbolicSize":
        factor, offset = (other.factor, other.offset) if isinstance(other, SymbolicSize) else (0, other)
        return SymbolicSize.build(int.__add__(self, other), self.factor + factor, self.offset + offset)

    __radd__ = __add__

    def __neg__(self) -> "SymbolicSize":
        return SymbolicSize.build(int.__neg__(self), -self.factor, -self.offset)

    def __sub__(self, other: int) -> "SymbolicSize":
        return self + -other

    def __rsub__(self, other: int) -> "SymbolicSize":
        return -self + other

    def __mul__(self, other: int) -> "SymbolicSize":
        if isinstance(other, SymbolicSize) or not isinstance(other, int):
            raise _build_untraceable_error()
        return SymbolicSize.build(int.__mul__(self, other), self.factor * other, self.offset * other)

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> "SymbolicSize":
        if isinstance(other, SymbolicSize) or not isinstance(other, int) or self.factor % other or self.offset % other:
            raise _build_untraceable_error()
        return SymbolicSize.build(int.__floordiv__(self, other), self.factor // other, self.offset // other)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SymbolicSize) and (self.factor, self.offset) == (other.factor, other.offset):
            return True
        if not isinstance(other, int):
            return False
        raise _build_untraceable_error()

    def __ne__(self, other: object) -> bool:
        return not self == other

    def _raise_untraceable(self, *_: object) -> Any:  # noqa: ANN401 - as int's
        raise _build_untraceable_error()

    __hash__ = int.__hash__
    __lt__ = __le__ = __gt__ = __ge__ = __bool__ = _raise_untraceable
    __mod__ = __rmod__ = __truediv__ = __rtruediv__ = __rfloordiv__ = __pow__ = __rpow__ = _raise_untraceable
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __invert__ = _raise_untraceable
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = __divmod__ = __rdivmod__ = _raise_untraceable
    __int__ = __float__ = __abs__ = __round__ = __trunc__ = __floor__ = __ceil__ = _raise_untraceable


def _build_untraceable_error() -> UntraceableError:
    return VmapOnlyError("depends on the number of inputs in a way that a trace cannot express")


def compute_stacked_size(x: Tensor, factor: int, offset: int) -> int:
    """Compute factor · N + offset for stacked inputs (R, N, ...)."""
    return factor * x.shape[1] + offset


def compute_round_size(x: Tensor, factor: int, offset: int) -> int:
    """Compute factor · N + offset for the inputs (N, ...) of one round."""
    return factor * len(x) + offset
