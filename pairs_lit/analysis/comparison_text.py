"""What a comparison of two runs means, in a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass

from pairs_lit.analysis.comparison_tests import Decision, MeasuredDifference
from pairs_lit.analysis.failures import name_seeds
from pairs_lit.analysis.tables import p_value
from pairs_lit.runs.metrics import Metric

_MOST_DIGITS = 12


@dataclass(frozen=True)
class Side:
    """One of two runs that are compared.

    Attributes:
        name: The run's name.
        at_chance: The seeds of its rounds that learned nothing.
        left_out: The seeds of its rounds whose loss was not finite, which are not compared.
    """

    name: str
    at_chance: Sequence[int] = ()
    left_out: Sequence[int] = ()


@dataclass(frozen=True)
class _Unit:
    """How differences of a metric are written: accuracies in percentage points, losses as they are."""

    metric: Metric
    digits: int

    @property
    def better_word(self) -> str:
        return "lower" if self.metric.is_loss else "higher"

    @property
    def worse_word(self) -> str:
        return "higher" if self.metric.is_loss else "lower"

    def amount(self, value: float, sign: str = "") -> str:
        return f"{self.number(value, sign)}{'' if self.metric.is_loss else ' points'}"

    def number(self, value: float, sign: str = "") -> str:
        scaled = round(value if self.metric.is_loss else 100 * value, self.digits)
        return f"{scaled + 0.0:{sign}.{self.digits}f}"  # + 0.0: no minus before a zero


def describe_difference(first: Side, second: Side, decision: Decision, metric: Metric) -> str:
    """Return in a sentence which of two runs is better, that neither is shown to be, or how the tests disagree.

    Args:
        first: The first run.
        second: The second run.
        decision: What may be claimed of the first minus the second.
        metric: What was compared.
    """
    found, unit = decision.difference, _unit_of(decision.difference, metric)
    if decision.sign:
        sentence = _describe_winner(first, second, decision, unit)
    elif decision.outcome == "tests disagree":
        sentence = _describe_disagreement(first, second, decision, unit)
    elif found.low == found.high == found.median == found.rank_sign == 0:
        rounds = _count_rounds(found)
        sentence = f"{_lead(first, second, unit)}: all rounds compared gave the same ({rounds})"
    else:
        difference = f"the first minus the second is {unit.amount(found.estimate)} {_evidence(unit, 1, decision)}"
        sentence = f"{_lead(first, second, unit)}: {difference}; {_describe_power(unit, decision)}"
    return f"{sentence}{_describe_left_out(first, second)}."


def _unit_of(found: MeasuredDifference, metric: Metric) -> _Unit:
    is_loss, width = metric.is_loss, max(found.high - found.low, abs(found.estimate))
    digits = 4 if is_loss else 1 if width >= 0.002 else 2
    while 0 < width * (1 if is_loss else 100) < 2 * 10.0**-digits and digits < _MOST_DIGITS:
        digits += 1
    return _Unit(metric, digits)


def _lead(first: Side, second: Side, unit: _Unit) -> str:
    return f"{first.name} and {second.name} do not differ significantly in {unit.metric.words}"


def _describe_winner(first: Side, second: Side, decision: Decision, unit: _Unit) -> str:
    is_first = decision.sign == unit.metric.better_sign
    better, worse = (first, second) if is_first else (second, first)
    lead = f"{better.name} is better than {worse.name} "
    lead += f"(lower {unit.metric.words}) by" if unit.metric.is_loss else f"in {unit.metric.words} by"
    found = decision.difference
    return f"{lead} {unit.amount(abs(found.estimate))} {_evidence(unit, decision.sign, decision)}"


def _evidence(unit: _Unit, sign: int, decision: Decision) -> str:
    """Return ``(95 % interval 3.2 to 4.8), n = 10 pairs of rounds, p = 0.002 (paired)``."""
    found = decision.difference
    how = "paired" if found.is_paired else "unpaired"
    corrected = f", Holm's correction for {decision.comparisons} comparisons" if decision.comparisons > 1 else ""
    interval = f"(95 % interval {_interval(unit, sign, found)})"
    return f"{interval}, n = {_count_rounds(found)}, {_shown_p(decision.p_holm)} ({how}{corrected})"


def _interval(unit: _Unit, sign: int, found: MeasuredDifference) -> str:
    low, high = sorted((sign * found.low, sign * found.high))
    return f"{unit.number(low)} to {unit.number(high)}"


def _shown_p(p: float) -> str:
    value = p_value(p)
    return f"p {value}" if value.startswith("<") else f"p = {value}"


def _count_rounds(found: MeasuredDifference) -> str:
    return f"{found.n[0]} pairs of rounds" if found.is_paired else f"{found.n[0]} and {found.n[1]} rounds"


def _describe_power(unit: _Unit, decision: Decision) -> str:
    """Return what so many rounds would have found."""
    found = decision.difference
    if decision.outcome == "too few rounds":
        return decision.limit
    if not unit.metric.is_loss and found.detectable >= 1:
        return "too few rounds to detect a difference"
    alone = ", in a single comparison" if decision.comparisons > 1 else ""
    return f"a difference of {unit.amount(found.detectable)} or more would probably have been found (80 % power{alone})"


def _describe_disagreement(first: Side, second: Side, decision: Decision, unit: _Unit) -> str:
    """Return which run the ranks favour and which the mean does, and the rounds that explain it."""
    found = decision.difference
    by_ranks = decision.rank_rejects and not (decision.t_rejects and found.rank_sign * found.estimate > 0)
    sign = found.rank_sign if by_ranks else 1 if found.estimate > 0 else -1
    is_first = sign == unit.metric.better_sign
    better, worse = (first, second) if is_first else (second, first)
    describe = _describe_ranks_against_mean if by_ranks else _describe_mean_against_ranks
    corrected = f" (Holm's correction for {decision.comparisons} comparisons)" if decision.comparisons > 1 else ""
    lead = f"The tests disagree on {first.name} and {second.name} in {unit.metric.words}, n = {_count_rounds(found)}"
    return f"{lead}{corrected}: {better.name} {describe(unit, sign, decision)}{_describe_chance(better, worse)}"


def _describe_ranks_against_mean(unit: _Unit, sign: int, decision: Decision) -> str:
    found = decision.difference
    which = "in most rounds" if sign * found.median > 0 else "by the ranks of its rounds"
    if sign * found.estimate > 0:
        mean = f"its mean is not significantly {unit.better_word}"
    else:
        mean = f"its mean is {unit.worse_word}" if found.estimate else "the means are equal"
    return f"is better {which} {_median(unit, sign, decision)}, but {mean} {_mean(unit, decision)}"


def _describe_mean_against_ranks(unit: _Unit, sign: int, decision: Decision) -> str:
    which = "the median round is not" if decision.rank_rejects else "it is not significantly better in most rounds"
    return f"has the {unit.better_word} mean {_mean(unit, decision)}, but {which} {_median(unit, sign, decision)}"


def _median(unit: _Unit, sign: int, decision: Decision) -> str:
    """Return ``(median +0.4 points, p = 0.002)``, of the run whose differences have this sign where it is better."""
    shown = unit.amount(sign * unit.metric.better_sign * decision.difference.median, "+")
    return f"(median {shown}, {_shown_p(decision.p_rank_holm)})"


def _mean(unit: _Unit, decision: Decision) -> str:
    """Return ``(by 1.4 points, 95 % interval -2.4 to 5.1, p = 0.420)``."""
    found = decision.difference
    interval = _interval(unit, -1 if found.estimate < 0 else 1, found)
    return f"(by {unit.amount(abs(found.estimate))}, 95 % interval {interval}, {_shown_p(decision.p_t_holm)})"


def _describe_chance(better: Side, worse: Side) -> str:
    """Return which rounds learned nothing; empty where all did."""
    parts = [f"{name_seeds(better.at_chance)} ended at chance"] if better.at_chance else []
    parts += [f"{name_seeds(worse.at_chance)} of {worse.name} ended at chance"] if worse.at_chance else []
    return f": {', and '.join(parts)}" if parts else ""


def _describe_left_out(first: Side, second: Side) -> str:
    """Return which rounds failed and were not compared; empty where none did."""
    parts = [f"{name_seeds(side.left_out)} of {side.name}" for side in (first, second) if side.left_out]
    return f"; left out, since they failed: {', '.join(parts)}" if parts else ""
