"""Symbolic sizes: integers that a traced module computes from N, the number of its inputs."""

from typing import Any

from torch import Tensor

from pairs_lit.stacking.recording.traced_graph import OnlyMappableError, UntraceableError


class Count(int):
    """An integer that is known to be factor · N + offset, where N is the number of inputs.

    Sums, differences and multiples of it are symbolic sizes, too. Any other operation, such as a comparison with a
    number, raises :class:`OnlyMappableError`, because its result would hold for the present N only.

    Attributes:
        factor: The factor of N.
        offset: The constant that is added.
    """

    factor: int
    offset: int

    @classmethod
    def of(cls, value: int, factor: int, offset: int = 0) -> "Count":
        """Build a symbolic size that equals ``value`` for the present N."""
        size = cls(value)
        size.factor, size.offset = factor, offset
        return size

    def __repr__(self) -> str:
        """Return the formula, which is the same for every N."""
        return f"{self.factor}·N+{self.offset}"

    def __add__(self, other: int) -> "Count":
        factor, offset = (other.factor, other.offset) if isinstance(other, Count) else (0, other)
        return Count.of(int.__add__(self, other), self.factor + factor, self.offset + offset)

    __radd__ = __add__

    def __neg__(self) -> "Count":
        return Count.of(int.__neg__(self), -self.factor, -self.offset)

    def __sub__(self, other: int) -> "Count":
        return self + -other

    def __rsub__(self, other: int) -> "Count":
        return -self + other

    def __mul__(self, other: int) -> "Count":
        if isinstance(other, Count) or not isinstance(other, int):
            raise _on_count()
        return Count.of(int.__mul__(self, other), self.factor * other, self.offset * other)

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> "Count":
        if isinstance(other, Count) or not isinstance(other, int) or self.factor % other or self.offset % other:
            raise _on_count()
        return Count.of(int.__floordiv__(self, other), self.factor // other, self.offset // other)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Count) and (self.factor, self.offset) == (other.factor, other.offset):
            return True
        if not isinstance(other, int):
            return False
        raise _on_count()

    def __ne__(self, other: object) -> bool:
        return not self == other

    def _refused(self, *_: object) -> Any:  # noqa: ANN401 - as int's
        raise _on_count()

    __hash__ = int.__hash__
    __lt__ = __le__ = __gt__ = __ge__ = __bool__ = _refused
    __mod__ = __rmod__ = __truediv__ = __rtruediv__ = __rfloordiv__ = __pow__ = __rpow__ = _refused
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __invert__ = _refused
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = __divmod__ = __rdivmod__ = _refused
    __int__ = __float__ = __abs__ = __round__ = __trunc__ = __floor__ = __ceil__ = _refused


def _on_count() -> UntraceableError:
    return OnlyMappableError("depends on the number of inputs in a way that a trace cannot express")


def count_of(x: Tensor, factor: int, offset: int) -> int:
    """Compute factor · N + offset for stacked inputs (R, N, ...)."""
    return factor * x.shape[1] + offset


def count_of_one(x: Tensor, factor: int, offset: int) -> int:
    """Compute factor · N + offset for the inputs (N, ...) of one round."""
    return factor * len(x) + offset
