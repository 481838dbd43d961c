"""Sentences that state the result of comparing two runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from pairs_lit.analysis.comparison_tests import Decision, MeasuredDifference
from pairs_lit.analysis.failures import format_seed_list
from pairs_lit.analysis.tables import format_p_value
from pairs_lit.runs.metrics import Metric

_MAX_DIGITS = 12


@dataclass(frozen=True)
class ComparedRun:
    """One of two compared runs.

    Attributes:
        name: The run's name.
        at_chance: The seeds of the compared rounds that learned nothing.
        left_out: The seeds of the rounds that were not compared, because their loss was not finite.
    """

    name: str
    at_chance: Sequence[int] = ()
    left_out: Sequence[int] = ()


@dataclass(frozen=True)
class _NumberFormat:
    """Number format of a metric's differences: percentage points for accuracies, plain numbers for losses."""

    metric: Metric
    digits: int

    @property
    def better_word(self) -> str:
        return "lower" if self.metric.is_loss else "higher"

    @property
    def worse_word(self) -> str:
        return "higher" if self.metric.is_loss else "lower"

    def format_amount(self, value: float, sign: str = "") -> str:
        return f"{self.format_number(value, sign)}{'' if self.metric.is_loss else ' points'}"

    def format_number(self, value: float, sign: str = "") -> str:
        scaled = round(value if self.metric.is_loss else 100 * value, self.digits)
        return f"{scaled + 0.0:{sign}.{self.digits}f}"  # adding 0.0 turns -0.0 into 0.0


def describe_difference(first: ComparedRun, second: ComparedRun, decision: Decision, metric: Metric) -> str:
    """Return a sentence that names the better run, or that says that neither is better or how the tests disagree.

    Args:
        first: The first run.
        second: The second run.
        decision: The decision about the first run minus the second.
        metric: The compared metric.
    """
    difference = decision.difference
    unit = _build_number_format(difference, metric)
    if decision.sign:
        sentence = _describe_winner(first, second, decision, unit)
    elif decision.outcome == "tests disagree":
        sentence = _describe_disagreement(first, second, decision, unit)
    elif difference.low == difference.high == difference.median == difference.rank_sign == 0:
        sentence = (
            f"{_describe_no_difference(first, second, unit)}: all compared rounds are equal "
            f"({_format_round_count(difference)})"
        )
    else:
        estimate = (
            f"the first minus the second is {unit.format_amount(difference.estimate)} "
            f"{_format_evidence(unit, 1, decision)}"
        )
        sentence = f"{_describe_no_difference(first, second, unit)}: {estimate}; {_describe_power(unit, decision)}"
    return f"{sentence}{_describe_left_out(first, second)}."


def _build_number_format(difference: MeasuredDifference, metric: Metric) -> _NumberFormat:
    """Choose enough digits that estimate and interval remain visible after rounding."""
    is_loss, width = metric.is_loss, max(difference.high - difference.low, abs(difference.estimate))
    digits = 4 if is_loss else 1 if width >= 0.002 else 2
    while 0 < width * (1 if is_loss else 100) < 2 * 10.0**-digits and digits < _MAX_DIGITS:
        digits += 1
    return _NumberFormat(metric, digits)


def _describe_no_difference(first: ComparedRun, second: ComparedRun, unit: _NumberFormat) -> str:
    return f"{first.name} and {second.name} do not differ significantly in {unit.metric.words}"


def _describe_winner(first: ComparedRun, second: ComparedRun, decision: Decision, unit: _NumberFormat) -> str:
    is_first = decision.sign == unit.metric.better_sign
    better, worse = (first, second) if is_first else (second, first)
    lead = f"{better.name} is better than {worse.name} "
    lead += f"(lower {unit.metric.words}) by" if unit.metric.is_loss else f"in {unit.metric.words} by"
    return (
        f"{lead} {unit.format_amount(abs(decision.difference.estimate))} "
        f"{_format_evidence(unit, decision.sign, decision)}"
    )


def _format_evidence(unit: _NumberFormat, sign: int, decision: Decision) -> str:
    """Return a text such as ``(95 % interval 3.2 to 4.8), n = 10 pairs of rounds, p = 0.002 (paired)``.

    The sign is 1 for the first run minus the second, and -1 for the second minus the first.
    """
    difference = decision.difference
    pairing = "paired" if difference.is_paired else "unpaired"
    corrected = f", Holm's correction for {decision.comparisons} comparisons" if decision.comparisons > 1 else ""
    interval = f"(95 % interval {_format_interval(unit, sign, difference)})"
    return f"{interval}, n = {_format_round_count(difference)}, {_format_p(decision.p_holm)} ({pairing}{corrected})"


def _format_interval(unit: _NumberFormat, sign: int, difference: MeasuredDifference) -> str:
    low, high = sorted((sign * difference.low, sign * difference.high))
    return f"{unit.format_number(low)} to {unit.format_number(high)}"


def _format_p(p: float) -> str:
    value = format_p_value(p)
    return f"p {value}" if value.startswith("<") else f"p = {value}"


def _format_round_count(difference: MeasuredDifference) -> str:
    first, second = difference.n
    return f"{first} pairs of rounds" if difference.is_paired else f"{first} and {second} rounds"


def _describe_power(unit: _NumberFormat, decision: Decision) -> str:
    """Return the minimum detectable effect in words, or why this many rounds cannot detect any difference."""
    if decision.outcome == "too few rounds":
        return decision.limit
    smallest = decision.difference.min_detectable_effect
    if not unit.metric.is_loss and smallest >= 1:
        return "too few rounds to detect a difference"
    alone = ", in a single comparison" if decision.comparisons > 1 else ""
    return f"the minimum detectable effect is {unit.format_amount(smallest)} (80 % power{alone})"


def _describe_disagreement(first: ComparedRun, second: ComparedRun, decision: Decision, unit: _NumberFormat) -> str:
    """Return which run the significant test favours, how the other test differs, and which rounds ended at chance."""
    difference = decision.difference
    t_test_confirms_ranks = decision.t_rejects and difference.rank_sign * difference.estimate > 0
    by_ranks = decision.rank_rejects and not t_test_confirms_ranks
    sign = difference.rank_sign if by_ranks else 1 if difference.estimate > 0 else -1
    is_first = sign == unit.metric.better_sign
    better, worse = (first, second) if is_first else (second, first)
    describe = _describe_ranks_against_mean if by_ranks else _describe_mean_against_ranks
    corrected = f" (Holm's correction for {decision.comparisons} comparisons)" if decision.comparisons > 1 else ""
    rounds = _format_round_count(difference)
    lead = f"The tests disagree on {first.name} and {second.name} in {unit.metric.words}, n = {rounds}"
    return (
        f"{lead}{corrected}: {better.name} {describe(unit, sign, decision)}{_describe_rounds_at_chance(better, worse)}"
    )


def _describe_ranks_against_mean(unit: _NumberFormat, sign: int, decision: Decision) -> str:
    difference = decision.difference
    where = "in most rounds" if sign * difference.median > 0 else "by the ranks of its rounds"
    if sign * difference.estimate > 0:
        mean = f"its mean is not significantly {unit.better_word}"
    else:
        mean = f"its mean is {unit.worse_word}" if difference.estimate else "the means are equal"
    return f"is better {where} {_format_median(unit, sign, decision)}, but {mean} {_format_mean(unit, decision)}"


def _describe_mean_against_ranks(unit: _NumberFormat, sign: int, decision: Decision) -> str:
    has_rank_difference = decision.rank_rejects
    contrast = "its median is not better" if has_rank_difference else "it is not significantly better in most rounds"
    return (
        f"has the {unit.better_word} mean {_format_mean(unit, decision)}, but {contrast} "
        f"{_format_median(unit, sign, decision)}"
    )


def _format_median(unit: _NumberFormat, sign: int, decision: Decision) -> str:
    """Return a text such as ``(median +0.4 points, p = 0.002)``, from the point of view of the run with this sign."""
    median = unit.format_amount(sign * unit.metric.better_sign * decision.difference.median, "+")
    return f"(median {median}, {_format_p(decision.p_rank_holm)})"


def _format_mean(unit: _NumberFormat, decision: Decision) -> str:
    """Return a text such as ``(by 1.4 points, 95 % interval -2.4 to 5.1, p = 0.420)``."""
    difference = decision.difference
    interval = _format_interval(unit, -1 if difference.estimate < 0 else 1, difference)
    return (
        f"(by {unit.format_amount(abs(difference.estimate))}, 95 % interval {interval}, {_format_p(decision.p_t_holm)})"
    )


def _describe_rounds_at_chance(better: ComparedRun, worse: ComparedRun) -> str:
    """Return which rounds learned nothing, or an empty text if all rounds learned something."""
    parts = [f"{format_seed_list(better.at_chance)} ended at chance"] if better.at_chance else []
    parts += [f"{format_seed_list(worse.at_chance)} of {worse.name} ended at chance"] if worse.at_chance else []
    return f": {', and '.join(parts)}" if parts else ""


def _describe_left_out(first: ComparedRun, second: ComparedRun) -> str:
    """Return which failed rounds were not compared, or an empty text if all rounds were compared."""
    parts = [f"{format_seed_list(side.left_out)} of {side.name}" for side in (first, second) if side.left_out]
    return f"; failed rounds were left out: {', '.join(parts)}" if parts else ""
