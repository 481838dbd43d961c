"""The page that answers the reports' claims from the rounds that were trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pairs_lit.analysis.comparison_tests import Decision, MeasuredDifference, compare_rounds, make_decisions
from pairs_lit.analysis.power import describe_limit
from pairs_lit.analysis.tables import format_decimal, format_interval, format_p_value, format_table
from pairs_lit.reproduction.claims import Claim, Contrast, Side
from pairs_lit.reproduction.fit_results import get_seconds_per_round
from pairs_lit.runs.metrics import METRICS_BY_COLUMN, METRICS_BY_TAG, Metric
from pairs_lit.runs.run import FinishedRun
from pairs_lit.runs.run_metadata import find_differing_settings
from pairs_lit.statistics import SIGNIFICANCE_LEVEL, SpreadRatio, adjust_holm, compare_spreads, summarise

Fits = Mapping[tuple[str, str, str], FinishedRun]
"""Finished fits by report, row and variant."""

_HEADER = ["comparison", "rounds", "first side", "second side", "difference or ratio", "95 % interval"]
_HEADER += ["p (Holm)", "minimum detectable effect"]

_LEGEND = """Each section asks one question, quotes the reports' answer, gives the answer of the reproduction, and \
ends with the comparisons that it follows from. "Not shown" means that the rounds show no significant difference, not \
that there is none.

The columns of the tables:

- *comparison*: the two sides, written "first − second" where means are compared, "first / second" where standard \
deviations or times are.
- *rounds*: the number of rounds of either side. "Paired" means that rounds of the same seed are compared with each \
other.
- *first side*, *second side*: mean ± standard deviation (ddof 1) over rounds of the test accuracy, as a fraction of \
pairs, after the last epoch unless the comparison says otherwise; or the time per round.
- *difference or ratio*: the first side minus the second, or, after ×, divided by it.
- *95 % interval*: of the difference.
- *p (Holm)*: the p value, corrected by Holm's method for all tests of the question.
- *minimum detectable effect*: the smallest true difference that this many rounds find with 80 % power, without \
correction."""

_METHOD = (
    "Paired rounds are compared by Student's paired t test and Wilcoxon's signed-rank test, others by Welch's and Mann "
    "and Whitney's. The interval is that of the t test, and p is the larger of both p values. A difference is "
    f"significant if both tests reject at {SIGNIFICANCE_LEVEL:g} and mean difference, median difference and ranks "
    "have the same "
    "sign. Spreads are compared by Brown and Forsythe's test."
)


@dataclass(frozen=True)
class ContrastResult:
    """The measured result of one contrast."""

    contrast: Contrast
    n: str  # rounds, and how they were compared
    first: str  # mean and std, or time
    second: str
    found: str  # the difference or ratio
    measured: MeasuredDifference | SpreadRatio | None = None  # None for a time, which was measured once

    @property
    def difference(self) -> MeasuredDifference | None:
        """The difference of the means, or None if something else was compared."""
        return self.measured if isinstance(self.measured, MeasuredDifference) else None


def compute_contrast(contrast: Contrast, fits: Fits) -> ContrastResult:
    """Measure one contrast."""
    first, second = fits[contrast.first.fit_key], fits[contrast.second.fit_key]
    if contrast.kind == "time":
        times = get_seconds_per_round(first), get_seconds_per_round(second)
        cells = f"{times[0]:.2f} s per round", f"{times[1]:.2f} s per round"
        return ContrastResult(contrast, "1 measurement", *cells, f"× {times[0] / times[1]:.2f}")
    first_values, second_values = get_values(contrast.first, fits), get_values(contrast.second, fits)
    left, right = (summarise(list(scores.values())) for scores in (first_values, second_values))
    cells = f"{left.mean:.4f} ± {left.std:.4f}", f"{right.mean:.4f} ± {right.std:.4f}"
    counts = f"{left.n}, {right.n}"
    if contrast.kind == "spread":
        spread = compare_spreads(list(first_values.values()), list(second_values.values()))
        return ContrastResult(contrast, counts, *cells, f"× {spread.ratio:.2f}", spread)
    same_data = not find_differing_settings(first.facts.data, second.facts.data)
    difference = compare_rounds(first_values, second_values, same_data=same_data)
    n = f"{difference.n[0]}, paired" if difference.is_paired else f"{counts}, unpaired"
    return ContrastResult(contrast, n, *cells, f"{difference.estimate:+.4f}", difference)


def get_values(side: Side, fits: Fits) -> dict[int, float]:
    """Return a side's metric by seed, of the rounds that did not fail; a shorter run gives its last epoch."""
    fit = fits[side.fit_key]
    if side.epoch is None:
        return fit.values(side.metric)
    curves = fit.curves
    epoch = min(side.epoch, curves.epochs) - 1
    by_seed = dict(zip(curves.seeds, curves.values[side.metric][epoch].tolist(), strict=True))
    return {result.seed: by_seed[result.seed] for result in fit.rounds if result.status == "ok"}


def render_page(claims: Sequence[Claim], fits: Fits, conditions: str) -> str:
    """Return the page, with a section for each claim."""
    head = [
        "# What the reports claim, and what the reproduction finds",
        f"Generated by `pairs-lit reproduce`. {conditions}",
        _LEGEND,
        _METHOD,
    ]
    sections = [
        _render_section(claim, [compute_contrast(contrast, fits) for contrast in claim.contrasts]) for claim in claims
    ]
    return "\n\n".join([*head, *sections]) + "\n"


def _render_section(claim: Claim, answers: Sequence[ContrastResult]) -> str:
    findings = decide_contrasts(answers)
    rows = []
    for result, finding in zip(answers, findings, strict=True):
        difference = result.difference
        tested = ["–" if finding.p is None else format_p_value(finding.p)]
        tested += ["–" if difference is None else format_decimal(difference.min_detectable_effect)]
        ends = "–" if difference is None else format_interval(difference.low, difference.high, "+")
        rows.append([result.contrast.title, result.n, result.first, result.second, result.found, ends, *tested])
    reproduction = f"*The reproduction*:\n\n{describe_findings(answers, findings)}"
    parts = [f"## {claim.question}", f"*The reports*: {claim.said}", reproduction, claim.remark]
    return "\n\n".join(part for part in [*parts, format_table(_HEADER, rows, "github")] if part)


def describe_round_limit(claims: Sequence[Claim], rounds: int) -> str:
    """Return why this many rounds cannot answer some of the questions, or an empty text if they can answer all."""
    counts = [sum(contrast.kind == "mean" for contrast in claim.contrasts) for claim in claims]
    limits = {count: describe_limit(rounds, rounds, count, is_paired=True) for count in counts}
    unanswered = [count for count in counts if limits[count]]
    if not unanswered:
        return ""
    questions = f"{len(unanswered)} of {len(claims)} questions on the reports' claims"
    return f"{questions} cannot be answered by rounds that are paired by seed: {limits[max(unanswered)]}"


@dataclass(frozen=True)
class Finding:
    """Decision on one contrast.

    Attributes:
        outcome: Whether the first side is significantly higher or lower, or why neither can be claimed.
        p: The p value, corrected for all tests of the question, or None for a time.
        limit: Why this many rounds cannot show a difference; empty for other outcomes.
    """

    outcome: Literal["higher", "lower", "no difference", "tests disagree", "too few rounds", "measured once"]
    p: float | None
    limit: str = ""


def decide_contrasts(answers: Sequence[ContrastResult]) -> list[Finding]:
    """Decide on the contrasts of one question, with p values corrected for all of its tests."""
    differences = [result.difference for result in answers if result.difference is not None]
    spreads = [result.measured for result in answers if isinstance(result.measured, SpreadRatio)]
    decisions = iter(make_decisions(differences, [spread.p for spread in spreads]))
    corrected = iter(adjust_holm([*(spread.p for spread in spreads), *(difference.p for difference in differences)]))
    findings = []
    for result in answers:
        if result.measured is None:
            findings.append(Finding("measured once", None))
        elif isinstance(result.measured, SpreadRatio):
            findings.append(_judge_spread(result.measured, next(corrected)))
        else:
            findings.append(_judge_difference(next(decisions)))
    return findings


def _judge_spread(spread: SpreadRatio, p: float) -> Finding:
    if p >= SIGNIFICANCE_LEVEL or spread.sign == 0:
        return Finding("no difference", p)
    return Finding("higher" if spread.sign > 0 else "lower", p)


def _judge_difference(decision: Decision) -> Finding:
    if decision.sign:
        return Finding("higher" if decision.sign > 0 else "lower", decision.p_holm)
    if decision.outcome == "too few rounds":
        return Finding("too few rounds", decision.p_holm, decision.limit)
    return Finding("tests disagree" if decision.outcome == "tests disagree" else "no difference", decision.p_holm)


def describe_findings(answers: Sequence[ContrastResult], findings: Sequence[Finding]) -> str:
    """Return a Markdown list with a sentence for each contrast: the answer to the question, and its evidence."""
    return "\n".join(
        f"- {_describe_finding(result, finding)}" for result, finding in zip(answers, findings, strict=True)
    )


def _describe_finding(result: ContrastResult, finding: Finding) -> str:
    """Return a sentence such as ``Yes: the test accuracy of A is 0.0128 higher than that of B (n = 10)`` and a stop."""
    describe = {"mean": _describe_difference, "spread": _describe_spread, "time": _describe_time}
    text = f"{_answer_question(result.contrast, finding)}{describe[result.contrast.kind](result, finding)}."
    return text[0].upper() + text[1:]


def _answer_question(contrast: Contrast, finding: Finding) -> str:
    """Return the answer to a yes-or-no question, such as ``Yes: ``, or an empty text for other questions."""
    if contrast.yes_if == "neither":
        return ""
    if finding.outcome in ("higher", "lower"):
        return "Yes: " if finding.outcome == contrast.yes_if else "No, the opposite: "
    return "Unclear: " if finding.outcome == "tests disagree" else "Not shown: "


def _describe_difference(result: ContrastResult, finding: Finding) -> str:
    difference = result.difference
    assert difference is not None
    first, reference = _name_sides(result.contrast)
    evidence = (
        f"95 % interval {format_interval(difference.low, difference.high, '+')}, {_describe_p(finding)}, n = {result.n}"
    )
    with_difference = f"(difference {result.found}, {evidence})"
    match finding.outcome:
        case "higher" | "lower":
            return f"{first} is {result.found[1:]} {finding.outcome} than {reference} ({evidence})"
        case "tests disagree":
            medians = f"the mean difference is {result.found}, the median difference {difference.median:+.4f}"
            return f"the tests disagree on whether {first} differs from {reference}: {medians} ({evidence})"
        case "too few rounds":
            return f"{first} cannot be shown to differ from {reference} {with_difference}: {finding.limit}"
        case _:
            return f"{first} does not differ significantly from {reference} {with_difference}"


def _describe_spread(result: ContrastResult, finding: Finding) -> str:
    first, second = (_get_label(side) for side in (result.contrast.first, result.contrast.second))
    ratio = result.found.removeprefix("× ")
    deviation = f"the standard deviation of the {_get_metric(result.contrast.first).words} over rounds"
    evidence = f"{_describe_p(finding)}, n = {result.n}"
    if finding.outcome in ("higher", "lower"):
        return f"{deviation} of {first} is {ratio} times that of {second} ({evidence})"
    return f"{deviation} does not differ significantly between {first} and {second} (ratio {ratio}, {evidence})"


def _describe_time(result: ContrastResult, _: Finding) -> str:
    first, second = (_get_label(side) for side in (result.contrast.first, result.contrast.second))
    ratio = result.found.removeprefix("× ")
    times = f"{result.first} against {result.second}, measured once"
    return f"a round of {first} takes {ratio} times as long as a round of {second} ({times})"


def _describe_p(finding: Finding) -> str:
    assert finding.p is not None
    text = format_p_value(finding.p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _name_sides(contrast: Contrast) -> tuple[str, str]:
    """Return phrases for both sides, such as ``the test accuracy of A`` and ``that of B``."""
    first, second = contrast.first, contrast.second
    quantities = _name_quantity(first, second), _name_quantity(second, first)
    labels = _get_label(first), _get_label(second)
    if quantities[0] == quantities[1]:
        reference = f"that of {labels[1]}"
    elif labels[0] == labels[1]:
        reference = f"its {quantities[1]}"
    else:
        reference = f"the {quantities[1]} of {labels[1]}"
    return f"the {quantities[0]} of {labels[0]}", reference


def _name_quantity(side: Side, other: Side) -> str:
    """Return the name of a side's metric, with its epoch if the sides are measured after different epochs."""
    metric, other_metric = _get_metric(side), _get_metric(other)
    if side.epoch is not None:
        return f"{metric.words} after epoch {side.epoch}"
    is_last = other.epoch is not None or (other_metric.is_best and not metric.is_best)
    return f"{metric.words} after the last epoch" if is_last else metric.words


def _get_metric(side: Side) -> Metric:
    return (METRICS_BY_COLUMN if side.epoch is None else METRICS_BY_TAG)[side.metric]


def _get_label(side: Side) -> str:
    return side.label or side.row
