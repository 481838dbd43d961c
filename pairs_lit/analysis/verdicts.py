"""What a comparison of two runs means, in a sentence."""

from dataclasses import dataclass

from pairs_lit.analysis.tables import p_value
from pairs_lit.statistics import LEVEL, Difference, least_p


@dataclass(frozen=True)
class _Unit:
    """How differences of a metric are written: accuracies in points of a hundred, losses as they are."""

    metric: str
    is_loss: bool
    digits: int

    def amount(self, value: float) -> str:
        return f"{self.number(value)}{'' if self.is_loss else ' points'}"

    def number(self, value: float) -> str:
        scaled = round(value if self.is_loss else 100 * value, self.digits) + 0.0  # + 0.0: no minus before a zero
        return f"{scaled:.{self.digits}f}"


def verdict(first: str, second: str, found: Difference, p: float, metric: str, tests: int = 1) -> str:
    """Say in a sentence which of two runs is better, or that they cannot be told apart.

    Args:
        first: The name of the first run.
        second: The name of the second run.
        found: The first minus the second.
        p: The p value that decides, corrected for the number of tests.
        metric: What was compared: ``test_accuracy``, or ``test_loss``, of which less is better.
        tests: How many comparisons p is corrected for.
    """
    is_loss, width = metric.endswith("loss"), max(found.high - found.low, abs(found.estimate))
    digits = 4 if is_loss else 1 if width >= 0.002 else 2
    unit = _Unit(metric.replace("val_", "validation_").replace("_", " "), is_loss, digits)
    if p < LEVEL:
        sign = 1 if found.estimate > 0 else -1
        better, worse = (first, second) if (sign > 0) != is_loss else (second, first)
        low, high = sorted((sign * found.low, sign * found.high))
        lead = f"{better} is better than {worse} "
        lead += f"(lower {unit.metric}) by" if is_loss else f"in {unit.metric} by"
        return (
            f"{lead} {unit.amount(abs(found.estimate))} {_evidence(unit, low, high, found, p, tests)}{_doubt(found)}."
        )
    shared = f"{first} and {second} cannot be told apart in {unit.metric}: "
    if found.low == found.high == 0:
        return f"{shared}all rounds compared gave the same ({_rounds(found)})."
    difference = f"the first minus the second is {unit.amount(found.estimate)}"
    evidence = _evidence(unit, found.low, found.high, found, p, tests)
    return f"{shared}{difference} {evidence}{_doubt(found)}; {_power(unit, found, tests)}."


def _evidence(unit: _Unit, low: float, high: float, found: Difference, p: float, tests: int) -> str:
    """Return ``(95 % interval 3.2 to 4.8), n = 10 pairs of rounds, p = 0.002 (paired)``."""
    value = p_value(p)
    shown = f"p {value}" if value.startswith("<") else f"p = {value}"
    how = "paired" if found.method == "paired" else "unpaired"
    corrected = f", Holm's correction for {tests} comparisons" if tests > 1 else ""
    interval = f"(95 % interval {unit.number(low)} to {unit.number(high)})"
    return f"{interval}, n = {_rounds(found)}, {shown} ({how}{corrected})"


def _rounds(found: Difference) -> str:
    return f"{found.n[0]} pairs of rounds" if found.method == "paired" else f"{found.n[0]} and {found.n[1]} rounds"


def _doubt(found: Difference) -> str:
    """Say where the interval and the test alone, which are computed in different ways, do not agree."""
    if least_p(found) >= LEVEL or found.contains_zero != (found.p < LEVEL):
        return ""
    return "; interval and test disagree, so it is a close call"


def _power(unit: _Unit, found: Difference, tests: int) -> str:
    """Say what so many rounds would have found."""
    if least_p(found) >= LEVEL:
        return (
            f"so few cannot tell any two runs apart (p is at least {p_value(least_p(found))}): train 6 rounds or more"
        )
    if not unit.is_loss and found.detectable >= 1:
        return "so few rounds would hardly find any difference"
    alone = ", in a single comparison" if tests > 1 else ""
    return f"a difference of {unit.amount(found.detectable)} or more would probably have been found (80 % power{alone})"
